// The lines that do in another page what this one does.
// SPDX-License-Identifier: MIT

const kSnippet = `import { load } from 'ternlm';

const model = await load('/model.gguf');

for await (const { text } of
    model.stream('Once upon a time')) {
  page.append(text);
}`;

export function Developers() {
  return (
    <pre class="snippet" tabIndex={0} aria-label="Code example">
      <code>{kSnippet}</code>
    </pre>
  );
}
