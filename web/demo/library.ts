// Which models this browser keeps, so that they need no network.
// SPDX-License-Identifier: MIT

import { signal } from '@preact/signals';
import { storage, type StoredModel } from 'ternlm/storage';

/** Those that are kept whole, by the SHA-256 of their file. */
export const kept = signal<ReadonlyMap<string, StoredModel>>(new Map());

/** Looks again. Some frames and browsers keep nothing. */
export async function lookForKept(): Promise<void> {
  try {
    const whole = (await storage.list()).filter(({ complete, integrity }) => complete && integrity !== null);
    kept.value = new Map(whole.map((each) => [each.integrity ?? '', each]));
  } catch {
    kept.value = new Map();
  }
}

/** One that is loaded goes on. */
export async function forget({ id }: StoredModel): Promise<void> {
  await storage.delete(id);
  await lookForKept();
}
