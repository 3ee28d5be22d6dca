// Whether a page can hold a model is known when its header is read: then it has the memory, or a typed error.
// SPDX-License-Identifier: MIT

import { readFileSync } from 'node:fs';
import { afterEach, describe, expect, test, vi } from 'vitest';
import { Engine, type ModuleFactory } from '../../web/src/engine/engine.js';
import { hgrnbit, type Sizes } from './gguf.js';

const kWasm = new URL('../../web/src/wasm/', import.meta.url);

async function pushHeader(sizes: Sizes): Promise<{ engine: Engine; push: () => number }> {
  const script: { default: ModuleFactory } = await import(new URL('tern-simd.js', kWasm).href);
  const engine = await Engine.fromWasm(
    script.default,
    Uint8Array.from(readFileSync(new URL('tern-simd.wasm', kWasm))),
    'simd',
    '',
  );
  const loader = engine.newLoader(null);
  return { engine, push: () => loader.push(hgrnbit(sizes).bytes) };
}

afterEach(() => vi.restoreAllMocks());

describe('a model of gigabytes', () => {
  test('that fits is begun: its size is known before its data, and there is memory for it', async () => {
    const { engine, push } = await pushHeader({ hidden: 2560, intermediate: 6912, layers: 4 });
    const file = push();
    expect(file).toBeGreaterThan(80e6);
    expect(engine.memoryBytes / file).toBeGreaterThan(1);
    expect(engine.memoryBytes / file).toBeLessThan(1.15);
  });

  test('is refused before its data where the page cannot have the memory', async () => {
    const { engine, push } = await pushHeader({ hidden: 2560, intermediate: 6912, layers: 4 });
    vi.spyOn(WebAssembly.Memory.prototype, 'grow').mockImplementation(() => {
      throw new RangeError('WebAssembly.Memory.grow(): Unable to grow instance memory');
    });
    const message = /the model needs \d{8} bytes, which cannot be had here now: expected a smaller model/;
    expect(push).toThrow(expect.objectContaining({ code: 'out-of-memory', message: expect.stringMatching(message) }));
    expect(engine.memoryBytes).toBeLessThan(8 << 20);
  });

  test('touches memory for what has arrived, not for what its header claims', async () => {
    const script: { default: ModuleFactory } = await import(new URL('tern-simd.js', kWasm).href);
    const wasm = Uint8Array.from(readFileSync(new URL('tern-simd.wasm', kWasm)));
    const engine = await Engine.fromWasm(script.default, wasm, 'simd', '');
    const loader = engine.newLoader(null);
    // 1.6 GB by its header, of which a row of the largest matrix is there.
    const file = Uint8Array.from(readFileSync(new URL('../data/huge-claim.gguf', import.meta.url)));
    const before = process.memoryUsage.rss();
    expect(loader.push(file)).toBe(1604421248);
    expect(() => loader.finish()).toThrow(/expected a file of 1604421248 bytes, found 5120: it is truncated/);
    expect(process.memoryUsage.rss() - before).toBeLessThan(256 << 20);
  });

  test.each([
    [
      { hidden: 16384, intermediate: 65536, layers: 2 },
      /the model needs 2\d{9} bytes, here the engine can have 2080374784/,
    ],
    [{ hidden: 16384, intermediate: 65536, layers: 3 }, /the model needs 3\d{9} bytes/],
  ])('of more than 2 GB is refused at once with the sizes (%j)', async (sizes, message) => {
    const { engine, push } = await pushHeader(sizes);
    expect(push).toThrow(expect.objectContaining({ code: 'out-of-memory', message: expect.stringMatching(message) }));
    expect(engine.memoryBytes).toBeLessThan(8 << 20);
  });

  test('in a file of more than 4 GB is refused, too', async () => {
    const { push } = await pushHeader({ hidden: 16384, intermediate: 65536, layers: 5 });
    expect(push).toThrow(
      expect.objectContaining({
        code: 'unsupported',
        message: expect.stringMatching(/a file of at most 4294967296 bytes/),
      }),
    );
  });
});
