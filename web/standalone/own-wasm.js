// In place of web/src/engine/own-wasm.ts: the modules are in the script, compressed (gzip, base64).
// SPDX-License-Identifier: MIT

import { wasm } from 'ternlm:inside';

export async function ownWasm(variant) {
  const text = wasm[variant];
  if (text === undefined) throw new Error("the self-contained build has no threads: import 'ternlm'");
  const packed = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const whole = new Blob([packed]).stream().pipeThrough(new DecompressionStream('gzip'));
  return new Uint8Array(await new Response(whole).arrayBuffer());
}
