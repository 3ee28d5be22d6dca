// The lines that do elsewhere what the page has just done: the same model, beginning, settings and seed, so the same bytes.
// SPDX-License-Identifier: MIT

import type { GenerateOptions } from 'ternlm';
import type { PublishedModel } from './published.js';

export type Kind = 'plain' | 'react' | 'node';

export interface Done {
  readonly prompt: string;
  readonly options: GenerateOptions;
  /** What the page has shown of it: bytes, or pieces of text where the model's tokens are those. */
  readonly length: number;
  readonly isOfBytes: boolean;
  readonly file: string;
  readonly published: PublishedModel | null;
}

export function snippetOf(kind: Kind, done: Done): string {
  const { source, importing, argument } = modelOf(done, kind);
  const options = optionsOf(done);
  const prompt = JSON.stringify(done.prompt);
  switch (kind) {
    case 'plain':
      return `import { load } from 'ternlm';
${importing}
const model = await load(${argument});
const options = ${options};
for await (const { text } of model.stream(${prompt}, options)) {
  document.body.append(text);
}
await model.close();
`;
    case 'node':
      return `import { load } from 'ternlm';
${importing}
const model = await load(${argument});
const options = ${options};
const { text } = await model.generate(${prompt}, options);
process.stdout.write(text);
await model.close();
`;
    case 'react':
      return `import { load } from 'ternlm';
import { useGeneration, useModel } from 'ternlm/react';
${importing}
const loadModel = (how) => load(${source}, { ...how${done.published?.default === false ? `, integrity: '${done.published.sha256}'` : ''} });
const options = ${options};

export function Story() {
  const { model, status } = useModel(loadModel);
  const { text, write } = useGeneration(model);
  const tell = () => write(${prompt}, options);
  return (
    <>
      <button onClick={tell} disabled={status !== 'ready'}>Write</button>
      <p>{text}</p>
    </>
  );
}
`;
  }
}

/** The default model comes with the package; others are files beside the page, or where Node runs. */
function modelOf({ file, published }: Done, kind: Kind): { source: string; importing: string; argument: string } {
  if (published?.default) {
    const name = file.replace(/\.gguf$/, '');
    return { source: 'stories', importing: `import stories from 'ternlm/models/${name}';\n`, argument: 'stories' };
  }
  const source = `'${kind === 'node' ? './' : '/models/'}${file.replaceAll("'", "\\'")}'`;
  const integrity = published ? `, {\n  integrity: '${published.sha256}',\n}` : '';
  return { source, importing: '', argument: `${source}${integrity}` };
}

function optionsOf({ options, length, isOfBytes }: Done): string {
  const { temperature, topK, topP, seed } = options;
  const isLarge = typeof seed === 'bigint' && seed > BigInt(Number.MAX_SAFE_INTEGER);
  const fields = {
    temperature,
    topK,
    topP,
    seed: `${seed}${isLarge ? 'n' : ''}`,
    [isOfBytes ? 'maxBytes' : 'maxTokens']: length,
  };
  const lines = Object.entries(fields).map(([name, value]) => `  ${name}: ${value},\n`);
  return `{\n${lines.join('')}}`;
}
