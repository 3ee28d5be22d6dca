// How fast the engine writes, when it began, how much there is, and with which seed.
// SPDX-License-Identifier: MIT

import * as sheet from '../sheet.js';
import { meters, note, settings } from '../state.js';

export function Meters() {
  const { speed, firstByteMs, bytes, seed } = meters.value;
  const keep = (): void => {
    settings.seed.value = String(sheet.take.value?.seed ?? seed);
    note.value = 'Seed kept: what is told next is drawn with it.';
  };
  return (
    <dl class="meters" aria-label="Measurements">
      <div title="How fast the engine computes; the text is shown at the pace of a reader">
        <dt>Bytes/s</dt>
        <dd id="speed">{speed === null ? '–' : Math.round(speed).toLocaleString('en')}</dd>
      </div>
      <div>
        <dt>First byte</dt>
        <dd>
          <span id="first-byte">{firstByteMs === null ? '–' : firstByteMs.toFixed(firstByteMs < 10 ? 1 : 0)}</span>{' '}
          <small>ms</small>
        </dd>
      </div>
      <div>
        <dt>Written</dt>
        <dd>
          <span id="count">{bytes.toLocaleString('en')}</span> <small>bytes</small>
        </dd>
      </div>
      <div>
        <dt>Seed</dt>
        <dd>
          <button class="seed-shown" id="seed-shown" type="button" title={`Keep the seed ${seed}`} onClick={keep}>
            {seed === '' ? '–' : seed}
          </button>
        </dd>
      </div>
    </dl>
  );
}
