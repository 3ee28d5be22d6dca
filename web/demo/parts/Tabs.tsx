// Which lens the text is looked at with: tabs above it, and what the lens has to say.
// SPDX-License-Identifier: MIT

import { kLenses, lensOf } from '../lenses/index.js';
import { lens } from '../state.js';

export function Tabs() {
  const turn = (event: KeyboardEvent, at: number): void => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    const next = step && kLenses.at((at + step) % kLenses.length);
    if (!next) return;
    event.preventDefault();
    lens.value = next.name;
    document.getElementById(`tab-${next.name}`)?.focus();
  };
  return (
    <div class="tabs" role="tablist" aria-label="Look at the text">
      {kLenses.map(({ name, title }, at) => (
        <button
          key={name}
          id={`tab-${name}`}
          class="tab"
          type="button"
          role="tab"
          aria-selected={lens.value === name}
          aria-controls="lens"
          tabIndex={lens.value === name ? 0 : -1}
          onClick={() => (lens.value = name)}
          onKeyDown={(event) => turn(event, at)}
        >
          {title}
        </button>
      ))}
    </div>
  );
}

export function LensPanel() {
  const { name, Panel } = lensOf(lens.value);
  return (
    <section class="lens" id="lens" role="tabpanel" aria-labelledby={`tab-${name}`}>
      <Panel />
    </section>
  );
}
