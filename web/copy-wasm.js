// Puts the built WebAssembly modules beside the compiled TypeScript.
// SPDX-License-Identifier: MIT

import { copyFileSync, existsSync, mkdirSync } from 'node:fs';

const from = new URL('src/wasm/', import.meta.url);
const to = new URL('../dist/wasm/', import.meta.url);

mkdirSync(to, { recursive: true });
for (const name of ['tern-simd', 'tern-relaxed', 'tern-threads']) {
  for (const extension of ['js', 'wasm', 'd.ts']) {
    const file = `${name}.${extension}`;
    if (!existsSync(new URL(file, from))) {
      console.error(
        `web/src/wasm/${file} is missing: run "npm run build:wasm" first (scripts/setup installs what it needs)`,
      );
      process.exit(1);
    }
    copyFileSync(new URL(file, from), new URL(file, to));
  }
}
