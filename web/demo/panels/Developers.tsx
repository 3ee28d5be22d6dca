// The lines that do in another page, in React and in Node what this page has just done.
// SPDX-License-Identifier: MIT

import { useSignal } from '@preact/signals';
import { Copy } from '../parts/Copy.js';
import { isOfBytes } from '../words.js';
import * as sheet from '../sheet.js';
import { snippetOf, type Kind } from '../snippets.js';
import { choice, model, phase } from '../state.js';

/** Where the package says that it is from, if whoever built the page said so. */
const kRepository = String(import.meta.env['TERNLM_REPOSITORY'] ?? '');

const kKinds: readonly (readonly [kind: Kind, title: string])[] = [
  ['plain', 'A page'],
  ['react', 'React'],
  ['node', 'Node'],
];

export function Developers() {
  const kind = useSignal<Kind>('plain');
  const { value: take } = sheet.take;
  void phase.value; // how much there is counts when the writing rests
  const current = model.value;
  const { file = '', published = null } = choice.value ?? {};
  const isBytes = current === null || isOfBytes(current);
  const snippet =
    take &&
    snippetOf(kind.value, {
      prompt: take.prompt,
      options: take.options,
      length: Math.max(1, isBytes ? take.length : take.tokens),
      isOfBytes: isBytes,
      file,
      published,
    });
  return (
    <div class="panel-text">
      <p class="hint">
        One package: engine, worker and this page’s first model. These lines write what stands above: the same bytes.
      </p>
      <pre class="snippet install">
        <code>npm install ternlm</code>
      </pre>
      <div class="row" role="group" aria-label="Where it is to run">
        {kKinds.map(([name, title]) => (
          <button
            key={name}
            id={`snippet-${name}`}
            class="example"
            type="button"
            aria-pressed={kind.value === name}
            onClick={() => (kind.value = name)}
          >
            {title}
          </button>
        ))}
      </div>
      {snippet ? (
        <>
          <pre class="snippet" id="snippet" tabIndex={0} aria-label="Code">
            <code>{snippet}</code>
          </pre>
          <div class="row">
            <Copy id="copy-snippet" text={() => snippet}>
              Copy
            </Copy>
            <span class="hint">
              {published?.default !== true && kind.value !== 'node' && `Put ${file} into /models/ of your server. `}
              {published?.default !== true && kind.value === 'node' && `Run it where ${file} is. `}
              It needs no headers and no key; the package’s README says what each bundler needs.
              {kRepository !== '' && (
                <>
                  {' '}
                  <a href={kRepository}>Source</a> · <a href={`${kRepository}/tree/HEAD/docs`}>How to …</a>
                </>
              )}
            </span>
          </div>
        </>
      ) : (
        <p>Let the model write something: the lines for it will stand here.</p>
      )}
    </div>
  );
}
