// The package's own .wasm files, where bundlers look for them: in this literal form. The self-contained build has another
// file in place of this one (web/standalone).
// SPDX-License-Identifier: MIT

import type { Variant } from './types.js';
import { fetchWasm } from './wasm-file.js';

export function ownWasm(variant: Variant): Promise<Uint8Array<ArrayBuffer>> {
  switch (variant) {
    case 'simd':
      return fetchWasm(new URL('../wasm/tern-simd.wasm', import.meta.url));
    case 'relaxed':
      return fetchWasm(new URL('../wasm/tern-relaxed.wasm', import.meta.url));
    case 'threads':
      return fetchWasm(new URL('../wasm/tern-threads.wasm', import.meta.url));
  }
}
