// What npm would publish can be imported by a clean Vite project without any configuration.
// SPDX-License-Identifier: MIT

import { execFileSync } from 'node:child_process';
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';

const kRoot = fileURLToPath(new URL('../../', import.meta.url));
const kBin = join(kRoot, 'node_modules/.bin');

let folder: string;
let project: string;
let installed: string;

/** Packs dist/ as it was built and unpacks it, and what it depends on, where `npm install ternlm.tgz` would. */
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'ternlm-'));
  const [packed]: { filename: string }[] = JSON.parse(
    run('npm', ['pack', '--json', '--pack-destination', folder], kRoot),
  );
  project = join(folder, 'project');
  installed = join(project, 'node_modules/ternlm');
  mkdirSync(installed, { recursive: true });
  run('tar', ['-xzf', join(folder, packed?.filename ?? ''), '--strip-components=1', '-C', installed], folder);
  for (const name of ['vite', '@huggingface']) {
    symlinkSync(join(kRoot, 'node_modules', name), join(project, 'node_modules', name));
  }
  write('package.json', '{ "name": "clean", "private": true, "type": "module" }');
  write('index.html', '<!doctype html><title>Clean</title><script type="module" src="/main.ts"></script>');
  write('main.ts', kMain);
});

afterAll(() => rmSync(folder, { recursive: true, force: true }));

const kMain = `import { load, TernError, type Model } from 'ternlm';

const model: Model = await load('/model.gguf');
try {
  for await (const { text } of model.stream('Once upon a time', { maxBytes: 100 })) document.body.append(text);
} catch (error) {
  if (error instanceof TernError) document.body.append(error.code);
}
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

describe('the package', () => {
  test('contains the compiled library, the modules and the licence, and no sources or tests', () => {
    const files = filesOf(installed);
    for (const file of [
      'LICENSE',
      'package.json',
      'dist/index.js',
      'dist/index.d.ts',
      'dist/host/worker.js',
      'dist/host/helper.js',
    ]) {
      expect(files).toContain(file);
    }
    expect(files.filter((file) => file.endsWith('.wasm'))).toEqual([
      'dist/wasm/tern-relaxed.wasm',
      'dist/wasm/tern-simd.wasm',
      'dist/wasm/tern-threads.wasm',
    ]);
    expect(files.filter((file) => /\.(ts|cc|gguf)$/.test(file) && !file.endsWith('.d.ts'))).toEqual([]);
  });

  test('fits the size budget, with everything a page could load', () => {
    const budget: { package_gzip_bytes: number } = JSON.parse(readFileSync(join(kRoot, 'tests/budget.json'), 'utf8'));
    const loaded = filesOf(join(installed, 'dist')).filter(
      // One engine is loaded; that with threads is the largest.
      (file) => /\.(js|wasm)$/.test(file) && (!file.startsWith('wasm/') || file.includes('tern-threads')),
    );
    expect(loaded).toContain('wasm/tern-threads.wasm');
    const bytes = loaded.map((file) => gzipSync(readFileSync(join(installed, 'dist', file)), { level: 9 }).length);
    expect(bytes.reduce((sum, size) => sum + size, 0)).toBeLessThan(budget.package_gzip_bytes);
  });

  test('exports what its map promises', () => {
    write(
      'resolve.mjs',
      `for (const name of ['ternlm', 'ternlm/worker', 'ternlm/tokenizer', 'ternlm/wasm/tern-simd.wasm', 'ternlm/package.json']) console.log(import.meta.resolve(name));`,
    );
    const resolved = run(process.execPath, ['resolve.mjs'], project).trim().split('\n');
    expect(resolved.map((url) => url.replace(/^.*\/ternlm\//, ''))).toEqual([
      'dist/index.js',
      'dist/host/worker.js',
      'dist/tokenizer.js',
      'dist/wasm/tern-simd.wasm',
      'package.json',
    ]);
  });

  test('builds in a clean Vite project: workers and modules come along, without a warning', () => {
    const output = run(join(kBin, 'vite'), ['build', '--logLevel', 'warn'], project);
    expect(output).toBe('');
    const built = filesOf(join(project, 'dist'));
    const expected = [
      /worker.*\.js$/,
      /helper.*\.js$/,
      /tern-simd.*\.wasm$/,
      /tern-relaxed.*\.wasm$/,
      /tern-threads.*\.wasm$/,
    ];
    for (const name of expected) {
      expect(built.filter((file) => name.test(file))).toHaveLength(1);
    }
  });

  test('type checks in a clean strict project', () => {
    write('tsconfig.json', JSON.stringify({ compilerOptions: kStrict, include: ['main.ts'] }));
    expect(run(join(kBin, 'tsc'), ['-p', '.'], project)).toBe('');
  });

  // Node always; the others where they are installed (TERN_DENO and TERN_BUN name them).
  const programs: [string, string | undefined, string[]][] = [
    ['Node', process.execPath, []],
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
       console.log(bytes.length, fromPath.info.runtime.reason);`,
    );
    expect(run(program, [...options, 'run.mjs'], project).trim()).toBe(`12 ${name} runs the SIMD128 variant`);
  });
});

const kStrict = {
  target: 'ES2022',
  module: 'ESNext',
  moduleResolution: 'Bundler',
  lib: ['ES2022', 'ESNext.Disposable', 'DOM', 'DOM.Iterable', 'DOM.AsyncIterable'],
  types: [],
  strict: true,
  exactOptionalPropertyTypes: true,
  noEmit: true,
};
