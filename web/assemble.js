// Makes dist/ the package that is published: WebAssembly, the default model, manifest and README beside the compiled TypeScript.
// SPDX-License-Identifier: MIT

import { transformSync } from 'esbuild';
import { copyFileSync, existsSync, mkdirSync, readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { manifest } from './manifest.js';
import { standalone } from './standalone/build.js';

const root = new URL('../', import.meta.url);
const dist = new URL('dist/', root);
const read = (path) => readFileSync(new URL(path, root), 'utf8');
const write = (path, text) => writeFileSync(new URL(path, dist), text);

function copyModules() {
  mkdirSync(new URL('wasm/', dist), { recursive: true });
  const modules = ['tern-simd', 'tern-relaxed', 'tern-threads'].flatMap((name) =>
    ['js', 'wasm', 'd.ts'].map((extension) => `${name}.${extension}`),
  );
  for (const name of [...modules, 'vectors.js', 'vectors.d.ts']) {
    const from = new URL(`web/src/wasm/${name}`, root);
    if (!existsSync(from)) {
      console.error(`${name} is missing: run "npm run build:wasm" first (scripts/setup installs what it needs)`);
      process.exit(1);
    }
    // Emscripten leaves names as long as they were.
    const isScript = name.startsWith('tern-') && name.endsWith('.js');
    if (isScript)
      write(`wasm/${name}`, transformSync(readFileSync(from, 'utf8'), { minify: true, target: 'es2022' }).code);
    else copyFileSync(from, new URL(`wasm/${name}`, dist));
  }
}

/** The default model as a file, as a module with its address, and as one that holds it. */
function addModel() {
  const { file, sha256, bytes, name } = JSON.parse(read('models/manifest.json')).models.find((model) => model.default);
  const stem = file.replace('.gguf', '');
  mkdirSync(new URL(`models/${stem}/`, dist), { recursive: true });
  copyFileSync(new URL(`models/${file}`, root), new URL(`models/${file}`, dist));
  const about = `bytes: ${bytes}, sha256: '${sha256}'`;
  write(
    `models/${stem}.js`,
    `// literal: bundlers look for this form\nexport default { source: new URL('./${file}', import.meta.url), ${about} };\n`,
  );
  const inside = readFileSync(new URL(`models/${file}`, root)).toString('base64');
  write(
    `models/${stem}/inline.js`,
    `const text = '${inside}';
export default { get source() { return Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0)); }, ${about} };\n`,
  );
  const declare = (index) => `import type { ModelFile } from '${index}';
/** ${name}: pass it to load(). */
declare const model: ModelFile;
export default model;\n`;
  write(`models/${stem}.d.ts`, declare('../index.js'));
  write(`models/${stem}/inline.d.ts`, declare('../../index.js'));
}

/**
 * What TypeScript 5.4 and `lib` es2022 + dom understand: arrays became generic in 5.7 (the type below has meant the same
 * before and since), and AsyncDisposable is of a library that a program need not have asked for.
 */
function widenTypes() {
  for (const file of readdirSync(dist, { recursive: true }).filter((each) => each.endsWith('.d.ts'))) {
    const text = readFileSync(new URL(file, dist), 'utf8');
    const plain = text.replace(
      /\b(Uint8Array|Uint32Array|Int32Array|Float64Array)<ArrayBuffer>/g,
      "ReturnType<$1['slice']>",
    );
    const lib = /AsyncDispos|asyncDispos/.test(text) ? '/// <reference lib="esnext.disposable" />\n' : '';
    if (!text.startsWith('/// <ref')) write(file, lib + plain);
  }
}

/** TERNLM_REPOSITORY: the address that the package is published from. */
function writeManifest() {
  write('package.json', `${JSON.stringify(manifest(process.env.TERNLM_REPOSITORY), null, 2)}\n`);
  copyFileSync(new URL('LICENSE', root), new URL('LICENSE', dist));
  copyFileSync(new URL('web/README.md', root), new URL('README.md', dist));
}

copyModules();
addModel();
write('standalone.js', await standalone());
write('standalone.d.ts', "export * from './index.js';\n");
widenTypes();
writeManifest();
