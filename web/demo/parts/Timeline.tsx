// The text as a line of bytes, along which the place can be moved from where the model goes on.
// SPDX-License-Identifier: MIT

import * as sheet from '../sheet.js';
import { phase } from '../state.js';

const bytesIn = (text: string): number => new TextEncoder().encode(text).length;

export function Timeline() {
  const text = sheet.text.value;
  const at = sheet.caret.value ?? text.length;
  const move = (to: number): void => {
    sheet.caret.value = to >= text.length ? null : to - (isInside(text, to) ? 1 : 0);
  };
  return (
    <label class="timeline" for="timeline">
      <input
        id="timeline"
        type="range"
        min={0}
        max={text.length}
        step={1}
        value={at}
        disabled={phase.value === 'writing' || text === ''}
        aria-valuetext={`byte ${bytesIn(text.slice(0, at))}`}
        onInput={({ currentTarget }) => move(currentTarget.valueAsNumber)}
      />
      <span class="figure" id="timeline-shown">
        byte {bytesIn(text.slice(0, at)).toLocaleString('en')} of {bytesIn(text).toLocaleString('en')}
      </span>
    </label>
  );
}

/** Whether the place lies between the halves of a character. */
function isInside(text: string, at: number): boolean {
  const code = text.charCodeAt(at);
  return code >= 0xdc00 && code <= 0xdfff;
}
