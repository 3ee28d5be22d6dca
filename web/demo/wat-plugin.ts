// WebAssembly in its text form, as the bytes of a module: `import bytes from './name.wat'`.
// SPDX-License-Identifier: MIT

import type { Plugin } from 'vite';
import wabt from 'wabt';

export function wat(): Plugin {
  return {
    name: 'ternlm-wat',
    async transform(text, id) {
      if (!id.endsWith('.wat')) return null;
      const module = (await wabt()).parseWat(id, text, { simd: true, relaxed_simd: true });
      const { buffer } = module.toBinary({});
      module.destroy();
      return { code: `export default Uint8Array.of(${buffer.join()});`, map: null };
    },
  };
}
