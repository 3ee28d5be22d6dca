// What a reload keeps: the text, the settings and the choice of a model, for as long as the tab is open.
// SPDX-License-Identifier: MIT

import { ofName } from './choice.js';
import * as sheet from './sheet.js';
import { choice, lens, settings } from './state.js';

const kKey = 'ternlm';

/** Puts the page back as it was left, and keeps it when it is left again. */
export function connectKept(): void {
  try {
    restore(JSON.parse(sessionStorage.getItem(kKey) ?? '{}') as Partial<ReturnType<typeof current>>);
    addEventListener('pagehide', () => sessionStorage.setItem(kKey, JSON.stringify(current())));
  } catch {
    // Some frames and browsers keep nothing.
  }
}

function current() {
  return {
    text: sheet.text.value,
    runs: sheet.runs.value,
    from: sheet.from.value,
    file: choice.value?.published?.file ?? '',
    lens: lens.value,
    settings: Object.fromEntries(Object.entries(settings).map(([name, { value }]) => [name, value])),
  };
}

function restore(kept: Partial<ReturnType<typeof current>>): void {
  for (const [name, value] of Object.entries(kept.settings ?? {})) {
    const setting: unknown = Reflect.get(settings, name);
    if (setting) Reflect.set(setting, 'value', value);
  }
  choice.value = ofName(kept.file) ?? choice.value;
  lens.value = kept.lens ?? lens.value;
  if (kept.text === undefined || kept.runs === undefined) return;
  sheet.reset(kept.text, kept.runs);
  sheet.from.value = kept.from ?? kept.text.length;
}
