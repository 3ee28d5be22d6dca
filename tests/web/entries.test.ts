// The small entries of the package cost nothing unless they are imported, and little if they are.
// SPDX-License-Identifier: MIT

import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';
import { build } from 'esbuild';
import { expect, test } from 'vitest';

const kDist = fileURLToPath(new URL('../../dist/', import.meta.url));

/** What esbuild makes of a program that imports from the built package: its size, and the package's files in it. */
async function bundle(program: string): Promise<{ gzip: number; files: string[] }> {
  expect(existsSync(`${kDist}index.js`), 'npm run build:lib first').toBe(true);
  const { outputFiles, metafile } = await build({
    stdin: { contents: program, resolveDir: kDist },
    absWorkingDir: kDist,
    bundle: true,
    minify: true,
    write: false,
    metafile: true,
    format: 'esm',
    logLevel: 'silent',
    external: ['react', '../tokenizer.js'],
  });
  const files = Object.values(metafile.outputs).flatMap(({ inputs }) =>
    Object.entries(inputs).flatMap(([file, { bytesInOutput }]) => (bytesInOutput > 0 ? [file] : [])),
  );
  return { gzip: gzipSync(outputFiles[0]?.contents ?? '').length, files };
}

test('a program that imports nothing of them has nothing of them', async () => {
  const { files } = await bundle(`import { load } from './index.js'; globalThis.load = load;`);
  expect(files).toContain('index.js');
  expect(files.filter((file) => /^entries\/|vectors/.test(file))).toEqual([]);
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
