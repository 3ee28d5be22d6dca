// Which model writes: a card for each, with what is known of it; a GGUF file of the reader's own can take over.
// SPDX-License-Identifier: MIT

import { effect } from '@preact/signals';
import { useEffect, useRef } from 'preact/hooks';
import published from 'virtual:published-models';
import { factsOf, megabytes } from '../card.js';
import { forget, kept, lookForKept } from '../library.js';
import type { PublishedModel } from '../published.js';
import { speeds } from '../speeds.js';
import { choice, model } from '../state.js';
import { choose, openFile } from '../writer.js';

export function Models() {
  const chooser = useRef<HTMLInputElement>(null);
  const current = choice.value?.published ?? null;
  const facts = model.value ? factsOf(model.value.info, current) : ([['Loading', '…']] as const);
  // After each load something more may be kept.
  useEffect(() => effect(() => void (model.value && lookForKept())), []);
  return (
    <>
      <p class="hint">The text stays when another model goes on with it.</p>
      <ul class="models" id="models">
        {published.map((entry) => (
          <Card key={entry.file} entry={entry} isCurrent={entry.file === current?.file} />
        ))}
      </ul>
      <div class="own">
        <button class="button small" id="open-file" type="button" onClick={() => chooser.current?.click()}>
          Open a GGUF file
        </button>
        <input
          id="own-file"
          ref={chooser}
          type="file"
          accept=".gguf,.gz"
          hidden
          onChange={({ currentTarget }) => {
            const file = currentTarget.files?.[0];
            if (file) void openFile(file);
            currentTarget.value = ''; // so that the same file can be chosen again
          }}
        />
        <span class="hint">or drop one on the page: it stays on your device</span>
      </div>
      <dl class="facts" id="facts">
        {facts.map(([name, value]) => (
          <div key={name}>
            <dt>{name}</dt>
            <dd>{value}</dd>
          </div>
        ))}
      </dl>
    </>
  );
}

function Card({ entry, isCurrent }: { entry: PublishedModel; isCurrent: boolean }) {
  const { file, name, bytes, bits_per_byte: bits, sha256 } = entry;
  const stored = kept.value.get(sha256);
  const speed = speeds.value[file];
  return (
    <li class={isCurrent ? 'model current' : 'model'}>
      <button
        class="model-choice"
        type="button"
        data-file={file}
        aria-pressed={isCurrent}
        onClick={() => !isCurrent && void choose(file)}
      >
        <span class="model-name">{name}</span>
        <span class="hint">
          {bits.toFixed(3)} bits a byte · {megabytes(bytes)}
          {speed !== undefined && ` · ${speed.toLocaleString('en')} bytes/s here`}
        </span>
      </button>
      {stored ? (
        <button
          class="kept"
          type="button"
          title="Kept on this device. Delete it; it is downloaded again when it is needed"
          aria-label={`Delete ${name} from this device`}
          onClick={() => void forget(stored)}
        >
          kept ×
        </button>
      ) : (
        <span class="kept hint">{isCurrent ? 'not kept' : ''}</span>
      )}
    </li>
  );
}
