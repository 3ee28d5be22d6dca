// Compiles web/src to the modules of dist/: an entry each for what the package exports, and chunks for what they share.
// SPDX-License-Identifier: MIT

import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';
import { manifest } from './manifest.js';

const path = (relative) => fileURLToPath(new URL(relative, import.meta.url));

const exported = Object.values(manifest().exports).flatMap(
  (each) => /^\.\/(.*)\.js$/.exec(each.default ?? '')?.[1] ?? [],
);
const entries = exported.map((name) => path(`src/${name}.ts`)).filter(existsSync);

// Not exported, but entries nevertheless. What runs as a worker; and what names files by `new URL('../…', import.meta.url)`,
// where toolchains look for them: it is to lie in a folder of dist/, as chunks do, not to become a part of index.js.
const more = ['host/helper', 'link/scripts', 'engine/own-wasm'].map((name) => path(`src/${name}.ts`));

const { warnings } = await build({
  entryPoints: [...entries, ...more],
  outbase: path('src'),
  outdir: path('../dist'),
  chunkNames: 'chunks/[name]-[hash]',
  bundle: true,
  splitting: true,
  packages: 'external',
  plugins: [
    {
      name: 'wasm',
      setup: ({ onResolve }) => onResolve({ filter: /^\.\.\/wasm\// }, ({ path }) => ({ path, external: true })),
    },
  ],
  format: 'esm',
  target: 'es2022',
  minify: true,
  sourcemap: 'linked', // they hold the readable source
  logLevel: 'warning',
});
if (warnings.length > 0) process.exit(1);
