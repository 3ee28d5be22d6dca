// What a reload keeps: the prompt, the settings and the choice of a model, for as long as the tab is open.
// SPDX-License-Identifier: MIT

import { text } from './dom.js';

const kKey = 'ternlm';
const kIds = ['prompt', 'temperature', 'top-k', 'top-p', 'seed', 'slowly', 'marks', 'model-choice'];

/** Puts the fields back as the page was left, and keeps them when it is left again. */
export function connectKept(): void {
  try {
    const kept: unknown = JSON.parse(sessionStorage.getItem(kKey) ?? '{}');
    for (const [id, value] of Object.entries(kept ?? {})) Reflect.set(text(id), keyOf(id), value);
    addEventListener('pagehide', () => {
      const values = kIds.map((id): [string, unknown] => [id, Reflect.get(text(id), keyOf(id))]);
      sessionStorage.setItem(kKey, JSON.stringify(Object.fromEntries(values)));
    });
  } catch {
    // Some frames and browsers keep nothing.
  }
}

function keyOf(id: string): string {
  return text(id).matches('[type=checkbox]') ? 'checked' : 'value';
}
