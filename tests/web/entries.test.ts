// The small entries of the package cost nothing unless they are imported, and little if they are.
// SPDX-License-Identifier: MIT

import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';
import { build } from 'esbuild';
import { expect, test } from 'vitest';

const kDist = fileURLToPath(new URL('../../dist/', import.meta.url));

/** What a page loads of a program that imports from the built package before it calls anything: its size, and the files in it. */
async function bundle(program: string): Promise<{ gzip: number; files: string[] }> {
  expect(existsSync(`${kDist}index.js`), 'npm run build:lib first').toBe(true);
  const { outputFiles, metafile } = await build({
    stdin: { contents: program, resolveDir: kDist },
    absWorkingDir: kDist,
    outdir: 'out', // of paths only
    bundle: true,
    splitting: true,
    minify: true,
    write: false,
    metafile: true,
    format: 'esm',
    logLevel: 'silent',
    external: ['react'],
  });
  const first = Object.entries(metafile.outputs).find(([, { entryPoint }]) => entryPoint === '<stdin>')?.[0] ?? '';
  const loaded = new Set([first]);
  for (const name of loaded) {
    const { imports } = metafile.outputs[name] ?? { imports: [] };
    for (const { path, kind, external } of imports) if (kind === 'import-statement' && !external) loaded.add(path);
  }
  const files = [...loaded].flatMap((name) =>
    Object.entries(metafile.outputs[name]?.inputs ?? {}).flatMap(([file, { bytesInOutput }]) =>
      bytesInOutput > 0 ? [file] : [],
    ),
  );
  const sizes = outputFiles
    .filter(({ path }) => loaded.has(path.slice(kDist.length)))
    .map(({ contents }) => gzipSync(contents).length);
  expect(sizes.length).toBe(loaded.size);
  return { gzip: sizes.reduce((sum, size) => sum + size, 0), files };
}

test('a program that imports nothing of them has nothing of them', async () => {
  const { files } = await bundle(`import { load } from './index.js'; globalThis.load = load;`);
  expect(files).toContain('index.js');
  const separate =
    /^entries\/|vectors|^(tokenizer|compress|gguf)\.js|^constraints\/|^api\/chat|chat-template|@huggingface|regexpp/;
  expect(files.filter((file) => separate.test(file))).toEqual([]);
});

// Kilobytes (gzip), the page's load() not counted: the entries are given it. The vectors of conformance have their weight.
const limits: [name: string, program: string, kilobytes: number][] = [
  ['prompt-api', `import { promptApi } from './entries/prompt-api.js'; globalThis.x = promptApi;`, 6],
  [
    'react',
    `import { useModel, useGeneration } from './entries/react.js'; globalThis.x = [useModel, useGeneration];`,
    4,
  ],
  ['element', `import { defineStory } from './entries/element.js'; globalThis.x = defineStory;`, 5],
  ['ai-sdk', `import { languageModel } from './entries/ai-sdk.js'; globalThis.x = languageModel;`, 4],
  ['samples', `import { samples } from './entries/samples.js'; globalThis.x = samples;`, 2],
  ['recipe', `import { recipeOf, replay } from './entries/recipe.js'; globalThis.x = [recipeOf, replay];`, 3],
  ['storage', `import { storage } from './entries/storage.js'; globalThis.x = storage;`, 4],
  ['conformance', `import { checkConformance } from './entries/conformance.js'; globalThis.x = checkConformance;`, 300],
  ['testing', `import { toyModel } from './entries/testing.js'; globalThis.x = toyModel;`, 300],
];

test.each(limits)('%s brings no engine along, and fits its budget', async (_, program, kilobytes) => {
  const { gzip, files } = await bundle(program);
  expect(files.filter((file) => /^index|tern-|^host|own-wasm/.test(file))).toEqual([]);
  expect(gzip / 1000).toBeLessThan(kilobytes);
});

test('a program that imports one of them is larger by that one alone', async () => {
  const load = `import { load } from './index.js'; globalThis.load = load;`;
  const [without, alone] = [await bundle(load), await bundle(limits[2]?.[1] ?? '')];
  const both = await bundle(`${load} ${limits[2]?.[1]}`);
  expect(both.gzip).toBeLessThan(without.gzip + alone.gzip);
  const added = both.files.filter((file) => !without.files.includes(file));
  expect(added).toContain('entries/element.js');
  expect(added.filter((file) => !alone.files.includes(file))).toEqual([]);
});
