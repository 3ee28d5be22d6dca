// How fast each model has written in this browser: kept, so that the cards of all models can say it.
// SPDX-License-Identifier: MIT

import { signal } from '@preact/signals';

const kKey = 'ternlm speeds';

/** Bytes per second by the name of the model's file. */
export const speeds = signal<Readonly<Record<string, number>>>(kept());

/** The fastest counts: others may use the machine, too. */
export function keepSpeed(file: string, bytesPerSecond: number): void {
  if (!((speeds.value[file] ?? 0) < bytesPerSecond)) return;
  speeds.value = { ...speeds.value, [file]: Math.round(bytesPerSecond) };
  try {
    localStorage.setItem(kKey, JSON.stringify(speeds.value));
  } catch {
    // Some frames and browsers keep nothing.
  }
}

function kept(): Readonly<Record<string, number>> {
  try {
    const found: unknown = JSON.parse(localStorage.getItem(kKey) ?? '{}');
    const entries = Object.entries(found ?? {}).filter(([, speed]) => typeof speed === 'number');
    return Object.fromEntries(entries);
  } catch {
    return {};
  }
}
