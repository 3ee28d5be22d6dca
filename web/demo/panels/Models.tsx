// Which model writes, and what is known of it; a GGUF file of the reader's own can take over.
// SPDX-License-Identifier: MIT

import { useRef } from 'preact/hooks';
import published from 'virtual:published-models';
import { factsOf, megabytes } from '../card.js';
import { choice, model } from '../state.js';
import { choose, openFile } from '../writer.js';

export function Models() {
  const chooser = useRef<HTMLInputElement>(null);
  const current = choice.value?.published ?? null;
  const facts = model.value ? factsOf(model.value.info, current) : ([['Loading', '…']] as const);
  return (
    <>
      {published.length > 1 && (
        <div class="field choice">
          <label for="model-choice">Which one writes</label>
          <select
            id="model-choice"
            value={current?.file ?? ''}
            onChange={({ currentTarget }) => void choose(currentTarget.value)}
          >
            {!current && <option value="">{choice.value?.file ?? ''}</option>}
            {published.map(({ file, name, bytes }) => (
              <option key={file} value={file}>
                {name} · {megabytes(bytes)}
              </option>
            ))}
          </select>
        </div>
      )}
      <div class="own">
        <button class="button small" id="open-file" type="button" onClick={() => chooser.current?.click()}>
          Open a GGUF file
        </button>
        <input
          id="own-file"
          ref={chooser}
          type="file"
          accept=".gguf"
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
