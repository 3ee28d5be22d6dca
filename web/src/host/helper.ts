// The script of one more thread: an instance of the engine on the same memory that does nothing but its parts of products.
// SPDX-License-Identifier: MIT

import type { HelperStart } from '../engine/types.js';

self.addEventListener('message', ({ data }: MessageEvent<HelperStart>) => {
  const imports: Record<string, Record<string, WebAssembly.ImportValue>> = {};
  for (const { module, name, kind } of WebAssembly.Module.imports(data.module)) {
    // Their names are Emscripten's to choose. Products call none of the functions.
    (imports[module] ??= {})[name] = kind === 'memory' ? data.memory : notForHelpers;
  }
  const { exports } = new WebAssembly.Instance(data.module, imports);
  const table = Object.values(exports).find((each) => each instanceof WebAssembly.Table);
  if (!table) throw new Error('the engine exports no table');
  const run: unknown = table.get(data.entry);
  if (!isRun(run)) throw new Error(`the engine has no function ${data.entry}`);
  self.postMessage('ready');
  run(data.part); // for as long as there is a model
});

function isRun(value: unknown): value is (part: number) => void {
  return typeof value === 'function';
}

function notForHelpers(): never {
  throw new Error('a helper called a function of the page');
}
