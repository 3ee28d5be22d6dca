// Bundles web/src into one script that needs no other file: worker and WebAssembly inside.
// SPDX-License-Identifier: MIT

import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';
import { build } from 'esbuild';

const path = (relative) => fileURLToPath(new URL(relative, import.meta.url));

/** `inside`: the source of what 'ternlm:inside' is. */
function insteadOfFiles(inside) {
  return {
    name: 'instead-of-files',
    setup({ onResolve, onLoad }) {
      onResolve({ filter: /\/(scripts|own-wasm)\.js$/ }, (asked) => ({
        path: path(asked.path.replace(/^.*\//, './')),
      }));
      onResolve({ filter: /^ternlm:inside$/ }, () => ({ path: 'inside', namespace: 'inside' }));
      onResolve({ filter: /^\.\.\/(tokenizer|constraints\/index)\.js$/ }, ({ path }) => ({
        path: path.slice(1),
        external: true,
      }));
      onResolve({ filter: /^\.\/chat\.js$/ }, () => ({ path: './api/chat.js', external: true }));
      onLoad({ filter: /.*/, namespace: 'inside' }, () => ({ contents: inside }));
      onLoad({ filter: /tern-threads\.js$/ }, () => ({ contents: 'export default undefined;' }));
      // Emscripten's scripts would look for the files that they are given: bundlers of the bundle must not.
      onLoad({ filter: /tern-(simd|relaxed)\.js$/ }, ({ path }) => ({
        contents: readFileSync(path, 'utf8')
          .replace(/new URL\("[^"]*",import\.meta\.url\)\.href/, '""')
          .replaceAll('import.meta.url', '""'),
      }));
    },
  };
}

async function bundle(entry, format, inside) {
  const { outputFiles, warnings } = await build({
    entryPoints: [path(entry)],
    bundle: true,
    write: false,
    minify: true,
    format,
    target: 'es2022',
    plugins: [insteadOfFiles(inside)],
  });
  if (warnings.length > 0) throw new Error(JSON.stringify(warnings));
  return outputFiles[0].text;
}

/** The text of the script. */
export async function standalone() {
  const packed = (variant) =>
    gzipSync(readFileSync(path(`../src/wasm/tern-${variant}.wasm`)), { level: 9 }).toString('base64');
  const wasm = { simd: packed('simd'), relaxed: packed('relaxed') };
  const worker = await bundle('../src/host/worker.ts', 'iife', 'export const wasm = self.ternlmWasm;');
  const inside = `export const wasm = ${JSON.stringify(wasm)}; export const worker = ${JSON.stringify(worker)};`;
  return bundle('../src/index.ts', 'esm', inside);
}
