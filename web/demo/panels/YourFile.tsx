// A file of the reader's own: any file is measured against the model, a model file is opened and looked into.
// SPDX-License-Identifier: MIT

import { useSignal } from '@preact/signals';
import { useEffect, useRef } from 'preact/hooks';
import { megabytes } from '../card.js';
import { inspect, inspected } from '../inspected.js';
import { measure, measured, messageOf, packed } from '../measured.js';
import { Curve } from '../parts/Curve.js';
import { Download } from '../parts/Download.js';
import { Tensors } from '../parts/Tensors.js';
import * as sheet from '../sheet.js';
import { dropped, model } from '../state.js';
import { openFile } from '../writer.js';

export function YourFile() {
  const chooser = useRef<HTMLInputElement>(null);
  const unpacked = useSignal<{ name: string; data: Blob | null; problem: string } | null>(null);
  const refused = useSignal('');
  const { value: file } = dropped;
  useEffect(() => {
    if (!file) return;
    dropped.value = null;
    void take(file);
  }, [file]);

  async function take(given: File): Promise<void> {
    unpacked.value = null;
    refused.value = '';
    const head = new Uint8Array(await given.slice(0, 4).arrayBuffer());
    const begins = (magic: string): boolean => Array.from(magic).every((letter, i) => head[i] === letter.charCodeAt(0));
    if (begins('GGUF') || (begins('\x1f\x8b') && given.name.endsWith('.gguf.gz'))) {
      measured.value = null;
      void inspect(given.name, given);
      refused.value = await openFile(given);
      return;
    }
    inspected.value = null;
    const { value: current } = model;
    if (!current) return;
    if (!begins('TNC\x01')) return measure(current, given.name, given);
    measured.value = null;
    const name = given.name.replace(/\.tnc$/, '');
    unpacked.value = { name, data: null, problem: '' };
    try {
      const data = await current.decompress(new Uint8Array(await given.arrayBuffer()));
      unpacked.value = { name, data: new Blob([data]), problem: '' };
    } catch (error) {
      unpacked.value = { name, data: null, problem: messageOf(error) };
    }
  }

  return (
    <div class="panel-text">
      <p class="hint">
        Drop any file on the page. A text is read by the model: what does each part cost it, and how small does it
        become? A GGUF file is opened. Nothing is sent anywhere.
      </p>
      <div class="row">
        <button class="button small" id="choose-file" type="button" onClick={() => chooser.current?.click()}>
          Choose a file
        </button>
        <button
          class="button small"
          id="measure-sheet"
          type="button"
          disabled={!model.value || sheet.text.value === ''}
          onClick={() => void take(new File([sheet.text.value], 'the-text-on-the-page.txt'))}
        >
          Take the text above
        </button>
      </div>
      <input
        id="any-file"
        ref={chooser}
        type="file"
        hidden
        onChange={({ currentTarget }) => {
          const chosen = currentTarget.files?.[0];
          if (chosen) void take(chosen);
          currentTarget.value = ''; // so that the same file can be chosen again
        }}
      />
      {measured.value && <Curve file={measured.value} packed={packed.value} />}
      {inspected.value && <Tensors file={inspected.value} refused={refused.value} />}
      {unpacked.value && <Unpacked {...unpacked.value} />}
    </div>
  );
}

function Unpacked({ name, data, problem }: { name: string; data: Blob | null; problem: string }) {
  return (
    <p id="unpacked" role="status">
      {problem !== '' && `${name} was not found again: ${problem}.`}
      {problem === '' && !data && 'The model finds the data again…'}
      {data && (
        <>
          Found again, {data.size.toLocaleString('en')} bytes ({megabytes(data.size)}), checksum right ✓{' '}
          <Download name={name} data={data} />
        </>
      )}
    </p>
  );
}
