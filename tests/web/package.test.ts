// What npm would publish can be imported by a clean Vite project without any configuration.
// SPDX-License-Identifier: MIT

import { checkPackage, createPackageFromTarballData } from '@arethetypeswrong/core';
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { cpSync, existsSync, readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { delimiter, join, posix } from 'node:path';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';
import { publint } from 'publint';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { manifest } from '../../web/manifest.js';
import { newProject, removeAll, tarball } from '../toolchains/project.js';

const kRoot = fileURLToPath(new URL('../../', import.meta.url));
const kBin = join(kRoot, 'node_modules/.bin');

let project: string;
let installed: string;

beforeAll(() => {
  const files = {
    'index.html': '<!doctype html><title>Clean</title><script type="module" src="/main.ts"></script>',
    'main.ts': kMain,
    'react.ts': kReact,
  };
  ({ folder: project } = newProject(files, { links: ['vite', 'react', '@types/react'] }));
  installed = join(project, 'node_modules/ternlm');
});

afterAll(removeAll);

const kMain = `import { load, TernError, type Model } from 'ternlm';
import stories from 'ternlm/models/tinystories-3m5';
import inside from 'ternlm/models/tinystories-3m5/inline';
import { load as loadInside } from 'ternlm/standalone';
import { Tokenizer } from 'ternlm/tokenizer';
import { checkConformance } from 'ternlm/conformance';
import { expectBitExact, toyModel } from 'ternlm/testing';
import { promptApi } from 'ternlm/prompt-api';
import { defineStory, type StoryElement } from 'ternlm/element';

const model: Model = await load(stories);
const same = await loadInside(inside, { threads: 'auto' });
try {
  for await (const { text } of model.stream('Once upon a time', { maxBytes: 100 })) document.body.append(text);
  const { bytes, tokens } = await same.generate('x', { seed: 1n });
  new Blob([bytes]);
  tokens satisfies Uint32Array;
  Tokenizer.fromJson('{}').encode('x') satisfies Uint32Array;
  document.body.append((await checkConformance(load, { model })).text);
  await expectBitExact(await load(await toyModel()));
  const LanguageModel = promptApi((options) => load(stories, options));
  const { value } = await (await LanguageModel.create()).promptStreaming('x').getReader().read();
  document.body.append(value ?? '');
  defineStory(load, { model: stories });
  document.querySelector<StoryElement>('tern-story')?.stop();
} catch (error) {
  if (error instanceof TernError) document.body.append(error.code);
}
`;

const kReact = `import { load } from 'ternlm';
import stories from 'ternlm/models/tinystories-3m5';
import { useGeneration, useModel } from 'ternlm/react';

useGeneration(useModel((options) => load(stories, options)).model).write('x');
`;

function write(name: string, content: string): void {
  writeFileSync(join(project, name), content);
}

function run(command: string, args: string[], cwd: string): string {
  return execFileSync(command, args, { cwd, encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });
}

function find(program: string, variable: string): string | undefined {
  const folders = (process.env['PATH'] ?? '').split(delimiter).map((folder) => join(folder, program));
  return [process.env[variable] ?? '', ...folders].find((path) => path !== '' && existsSync(path));
}

function filesOf(path: string): string[] {
  return readdirSync(path, { recursive: true, encoding: 'utf8' }).sort();
}

/** The files of the package that one of them names, now or later, and those that these name. */
function reachable(from: string, found = new Set<string>()): string[] {
  found.add(from);
  if (from.endsWith('.js')) {
    const names = /\b(?:from|import|import\(|new URL\()"(\.[^"]+)"/g;
    for (const [, name = ''] of readFileSync(join(installed, from), 'utf8').matchAll(names)) {
      const file = posix.join(posix.dirname(from), name);
      if (!found.has(file)) reachable(file, found);
    }
  }
  return [...found];
}

describe('the package', () => {
  test('contains the compiled library, the modules and the licence, and no sources or tests', () => {
    const files = filesOf(installed);
    for (const file of [
      'LICENSE',
      'README.md',
      'package.json',
      'index.js',
      'index.d.ts',
      'standalone.js',
      'host/worker.js',
      'host/helper.js',
    ]) {
      expect(files).toContain(file);
    }
    expect(files.filter((file) => file.endsWith('.wasm'))).toEqual([
      'wasm/tern-relaxed.wasm',
      'wasm/tern-simd.wasm',
      'wasm/tern-threads.wasm',
    ]);
    expect(files.filter((file) => /\.(ts|cc|gguf)$/.test(file) && !file.endsWith('.d.ts'))).toEqual([
      'models/tinystories-3m5.gguf',
    ]);
  });

  test('fits the size budget, with everything a page could load for a model of bytes', () => {
    const budget: { package_gzip_bytes: number } = JSON.parse(readFileSync(join(kRoot, 'tests/budget.json'), 'utf8'));
    // One engine is loaded; that with threads is the largest. Tokenizer, chats and ternlm/gguf are for other models, and what
    // constraints, checkpoints and compressing need is loaded only for who asks for them.
    const loaded = reachable('index.js').filter(
      (file) => !/^(tokenizer|constraints|compress|gguf|api\/chat)|^chunks\/checkpoint|tern-(simd|relaxed)/.test(file),
    );
    for (const file of ['host/worker.js', 'host/helper.js', 'wasm/tern-threads.js', 'wasm/tern-threads.wasm']) {
      expect(loaded).toContain(file);
    }
    const bytes = loaded.map((file) => gzipSync(readFileSync(join(installed, file)), { level: 9 }).length);
    expect(bytes.reduce((sum, size) => sum + size, 0)).toBeLessThan(budget.package_gzip_bytes);
  });

  test('exports what its map promises', () => {
    const promised = {
      ternlm: 'index.js',
      'ternlm/standalone': 'standalone.js',
      'ternlm/worker': 'host/worker.js',
      'ternlm/tokenizer': 'tokenizer.js',
      'ternlm/compress': 'compress.js',
      'ternlm/conformance': 'entries/conformance.js',
      'ternlm/testing': 'entries/testing.js',
      'ternlm/prompt-api': 'entries/prompt-api.js',
      'ternlm/constraints': 'constraints/index.js',
      'ternlm/ai-sdk': 'entries/ai-sdk.js',
      'ternlm/recipe': 'entries/recipe.js',
      'ternlm/samples': 'entries/samples.js',
      'ternlm/storage': 'entries/storage.js',
      'ternlm/chat': 'api/chat.js',
      'ternlm/react': 'entries/react.js',
      'ternlm/element': 'entries/element.js',
      'ternlm/gguf': 'gguf.js',
      'ternlm/models/tinystories-3m5': 'models/tinystories-3m5.js',
      'ternlm/models/tinystories-3m5/inline': 'models/tinystories-3m5/inline.js',
      'ternlm/models/tinystories-3m5.gguf': 'models/tinystories-3m5.gguf',
      'ternlm/wasm/tern-simd.wasm': 'wasm/tern-simd.wasm',
      'ternlm/package.json': 'package.json',
    };
    const names = JSON.stringify(Object.keys(promised));
    write('resolve.mjs', `for (const name of ${names}) console.log(import.meta.resolve(name));`);
    const resolved = run(process.execPath, ['resolve.mjs'], project).trim().split('\n');
    expect(resolved.map((url) => url.replace(/^.*\/ternlm\//, ''))).toEqual(Object.values(promised));
  });

  test('has a manifest and types that their linters find nothing in', async () => {
    expect((await publint({ pkgDir: installed, strict: true })).messages).toEqual([]);
    const found = await checkPackage(createPackageFromTarballData(new Uint8Array(readFileSync(tarball()))));
    // It is of ES modules alone: require() and TypeScript's resolution of before 2022 are nobody's to ask for.
    const problems = 'problems' in found ? found.problems : ['there are no types'];
    expect(problems.filter((each) => !/"(node10|node16-cjs)"/.test(JSON.stringify(each)))).toEqual([]);
  });

  test('says where it comes from when it is published', () => {
    expect(manifest('https://example.invalid/ternlm')).toMatchObject({
      repository: { type: 'git', url: 'git+https://example.invalid/ternlm.git' },
      homepage: 'https://example.invalid/ternlm#readme',
      bugs: { url: 'https://example.invalid/ternlm/issues' },
    });
    expect(manifest(undefined)).not.toHaveProperty('homepage');
  });

  test('has the default model, which is what its checksum says', () => {
    const file = readFileSync(join(installed, 'models/tinystories-3m5.gguf'));
    for (const module of ['tinystories-3m5.js', 'tinystories-3m5/inline.js']) {
      const source = readFileSync(join(installed, 'models', module), 'utf8');
      expect(source).toContain(`bytes: ${file.length}, sha256: '${createHash('sha256').update(file).digest('hex')}'`);
    }
  });

  test('has a README that names no file which a reader of the package has not', () => {
    const links = [...readFileSync(join(installed, 'README.md'), 'utf8').matchAll(/\]\(([^)]*)\)/g)];
    expect(links.map(([, address]) => address).filter((address) => !/^(https:\/\/|#)/.test(address ?? ''))).toEqual([]);
  });

  test('builds in a clean Vite project: workers and modules come along, without a warning', () => {
    const output = run(join(kBin, 'vite'), ['build', '--logLevel', 'warn'], project);
    expect(output).toBe('');
    const built = filesOf(join(project, 'dist'));
    const expected = [
      /worker.*\.js$/,
      /\/helper-.*\.js$/,
      /tern-simd.*\.wasm$/,
      /tern-relaxed.*\.wasm$/,
      /tern-threads.*\.wasm$/,
    ];
    for (const name of expected) {
      expect(built.filter((file) => name.test(file))).toHaveLength(1);
    }
  });

  const compilers = {
    '5.9': 'typescript/bin/tsc',
    '5.6': '@arethetypeswrong/core/node_modules/typescript/bin/tsc', // scripts/test toolchains tries the others from 5.4 on
  };
  test.each(Object.entries(compilers))(
    'type checks in a clean strict project with TypeScript %s',
    (version, compiler) => {
      const tsc = join(kRoot, 'node_modules', compiler);
      write('tsconfig.json', JSON.stringify({ compilerOptions: kStrict, include: ['main.ts', 'react.ts'] }));
      expect(run(process.execPath, [tsc, '--version'], project)).toContain(`Version ${version}.`);
      expect(run(process.execPath, [tsc, '-p', '.'], project)).toBe('');
    },
  );

  // Node always; the others where they are installed (TERN_DENO and TERN_BUN name them, TERN_NODES further ones of Node).
  const programs: Program[] = [
    ['Node', process.execPath, []],
    ...(process.env['TERN_NODES'] ?? '').split(delimiter).map((node) => ['Node', node || undefined, []] as Program),
    ['Deno', find('deno', 'TERN_DENO'), ['run', '-A']],
    ['Bun', find('bun', 'TERN_BUN'), []],
  ];
  const available = programs.filter(([, program]) => program !== undefined);

  test.each(available)('runs in %s as it is, and lets it end without close()', (name, program = '', options) => {
    cpSync(join(kRoot, 'tests/golden/tiny_state.gguf'), join(project, 'model.gguf'));
    write(
      'run.mjs',
      `import { load } from 'ternlm';
       const fromPath = await load('model.gguf');
       const fromUrl = await load(new URL('model.gguf', import.meta.url));
       const { bytes } = await fromPath.generate('a', { greedy: true, maxBytes: 12 });
       const unread = fromUrl.stream('a', { greedy: true, maxBytes: 1e9 });
       await unread[Symbol.asyncIterator]().next();
       console.log(bytes.length, fromPath.info.runtime.reason);
       for (const [entry, file] of [['', ''], ['/standalone', '/inline']]) {
         const { load, TernError } = await import('ternlm' + entry);
         const { default: stories } = await import('ternlm/models/tinystories-3m5' + file);
         const model = await load(stories);
         const { text } = await model.generate('Once upon a time', { seed: 7, maxBytes: 24 });
         const wrong = await model.generate('x', { constraint: { regex: '(?=a)' } }).catch((error) => error);
         console.log(model.info.integrity, text, wrong instanceof TernError, wrong.code);
       }`,
    );
    const story = 'verified , there was a colorful f true bad-option';
    const said = run(program, [...options, 'run.mjs'], project)
      .trim()
      .split('\n');
    expect(said).toEqual([`12 ${name} runs the SIMD128 variant`, story, story]);
  });
});

type Program = [name: string, path: string | undefined, options: string[]];

const kStrict = {
  target: 'ES2022',
  module: 'ESNext',
  moduleResolution: 'Bundler',
  lib: ['ES2022', 'DOM'],
  types: [],
  strict: true,
  exactOptionalPropertyTypes: true,
  noEmit: true,
};
