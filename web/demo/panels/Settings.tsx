// How the model draws the next byte, with which seed, and how fast the text is shown.
// SPDX-License-Identifier: MIT

import { Slider } from '../parts/Slider.js';
import { model, settings } from '../state.js';

export function Settings() {
  const { temperature, topK, topP, seed, slowly } = settings;
  const most = Math.min(model.value?.info.vocabulary.size ?? 256, 256);
  return (
    <div class="settings">
      <p class="hint">What you change here holds from what is told next</p>
      <Slider id="temperature" title="Temperature" value={temperature} range={[0.1, 2, 0.05]}>
        Low keeps to the likely, high takes risks
      </Slider>
      <Slider id="top-k" title="Top-k" value={topK} range={[1, most, 1]}>
        From how many of the likeliest the next is drawn
      </Slider>
      <Slider id="top-p" title="Top-p" value={topP} range={[0.05, 1, 0.05]}>
        Only the likeliest that reach this share
      </Slider>
      <div class="field">
        <label for="seed">Seed</label>
        <div class="field-row">
          <input
            id="seed"
            type="text"
            inputMode="numeric"
            autocomplete="off"
            placeholder="a new one each time"
            aria-describedby="seed-hint"
            aria-invalid={!/^\d{0,20}$/.test(seed.value.trim())}
            value={seed}
            onInput={({ currentTarget }) => (seed.value = currentTarget.value)}
          />
          <button class="button small" id="seed-clear" type="button" onClick={() => (seed.value = '')}>
            Clear
          </button>
        </div>
        <span class="hint" id="seed-hint">
          A whole number. The same seed, beginning and settings give the same bytes
        </span>
      </div>
      <label class="check" for="slowly">
        <input
          id="slowly"
          type="checkbox"
          checked={slowly}
          onChange={({ currentTarget }) => (slowly.value = currentTarget.checked)}
        />{' '}
        Show at reading pace
      </label>
    </div>
  );
}
