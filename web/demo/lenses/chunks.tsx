// Chunks: where a hierarchical model begins one, in the prompt and in what it writes.
// SPDX-License-Identifier: MIT

import { effect, signal } from '@preact/signals';
import { boundariesOf, type Boundary } from '../chunks.js';
import type { Marks, Stretch } from '../paint.js';
import published from 'virtual:published-models';
import * as sheet from '../sheet.js';
import { meters, model } from '../state.js';
import { choose } from '../writer.js';
import type { Lens } from './index.js';

export const chunks: Lens = { name: 'chunks', title: 'Chunks', Panel, marks };

const inPrompt = signal<readonly Boundary[]>([]);

effect(() => {
  const { value: take } = sheet.take;
  inPrompt.value = [];
  void take?.promptMasks.then((masks) => {
    if (masks && take === sheet.take.value) inPrompt.value = boundariesOf(take.prompt, masks);
  });
});

/** Every other chunk is tinted; one of an outer stage is underlined from its beginning. */
function marks(): Marks {
  const all = [...inPrompt.value, ...written()];
  const end = sheet.text.value.length;
  const stretches = all.map(({ at }, i): Stretch => [at, all[i + 1]?.at ?? end]);
  return {
    chunk: stretches.filter((_, i) => i % 2 === 0),
    outer: all.filter(({ mask }) => mask > 1).map(({ at }): Stretch => [at, at + 1]),
  };
}

function written(): Boundary[] {
  const { value: take } = sheet.take;
  const found: Boundary[] = [];
  let at = sheet.from.value;
  for (const { text, masks } of take?.pieces ?? []) {
    if (masks) found.push(...boundariesOf(text, masks, at));
    at += text.length;
  }
  return found;
}

function Panel() {
  const stages = model.value?.info.stages ?? 0;
  const hierarchical = published.find(({ architecture }) => architecture === 'hnetbit');
  if (stages === 0) {
    return (
      <div class="lens-text">
        <p>The model that writes now sees single bytes or fixed pieces of text. A hierarchical one chooses its own.</p>
        {hierarchical && (
          <button class="button small" type="button" onClick={() => void choose(hierarchical.file)}>
            Let {hierarchical.name} go on
          </button>
        )}
      </div>
    );
  }
  return (
    <div class="lens-text">
      <p>
        Three blocks of this model see every byte; the inner ones run only where it begins a chunk. Every other chunk is
        tinted. How near it was to beginning one elsewhere is not shown: the engine tells where chunks begin, not how
        sure its router was.
      </p>
      <dl class="figures">
        <div>
          <dt>Bytes a chunk</dt>
          <dd id="chunk-length">
            {meters.value.bytesPerChunk.map((mean) => mean?.toFixed(1) ?? '–').join(' · ') || '–'}
          </dd>
        </div>
        <div>
          <dt>Chunks</dt>
          <dd id="chunk-count">
            {(inPrompt.value.length + (sheet.text.value, written().length)).toLocaleString('en')}
          </dd>
        </div>
      </dl>
    </div>
  );
}
