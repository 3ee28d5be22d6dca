// In place of web/src/link/scripts.ts: the worker's script is in the page's. Further threads are not.
// SPDX-License-Identifier: MIT

import { wasm, worker } from 'ternlm:inside';

let address = null; // for as long as there is the page

export function newEngineWorker() {
  address ??= URL.createObjectURL(
    new Blob([`self.ternlmWasm=${JSON.stringify(wasm)};`, worker], { type: 'text/javascript' }),
  );
  return new Worker(address);
}

export function newHelperWorker() {
  throw new Error('the self-contained build has no threads');
}
