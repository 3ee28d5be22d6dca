// A model that no page could hold is refused when its header is read, with a typed error, and takes no memory.
// SPDX-License-Identifier: MIT

import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { Engine, type ModuleFactory } from '../../web/src/engine/engine.js';

const kWasm = new URL('../../web/src/wasm/', import.meta.url);

const enum Type {
  u32 = 4,
  f32 = 6,
  string = 8,
}
const kF32 = 0;
const kTq2 = 35;

interface Sizes {
  hidden: number;
  intermediate: number;
  layers: number;
}

/** The part of a model file before its data: keys and the directory of tensors, as models/FORMAT.md has them. */
function header({ hidden, intermediate, layers }: Sizes): Uint8Array {
  const bytes: number[] = [];
  const u32 = (x: number): void => void bytes.push(x & 255, (x >>> 8) & 255, (x >>> 16) & 255, x >>> 24);
  const u64 = (x: number): void => (u32(x >>> 0), u32(Math.floor(x / 2 ** 32)));
  const text = (x: string): void => (u64(x.length), void bytes.push(...Buffer.from(x)));
  const keys: [string, Type, number | string][] = [
    ['general.architecture', Type.string, 'hgrnbit'],
    ['hgrnbit.block_count', Type.u32, layers],
    ['hgrnbit.embedding_length', Type.u32, hidden],
    ['hgrnbit.recurrent_length', Type.u32, hidden],
    ['hgrnbit.feed_forward_length', Type.u32, intermediate],
    ['hgrnbit.vocab_size', Type.u32, 256],
    ['hgrnbit.norm_rms_epsilon', Type.f32, 0x358637bd], // 1e-6
    ['hgrnbit.conv_kernel', Type.u32, 0],
    ['hgrnbit.gate_norm', Type.string, 'gate'],
    ['hgrnbit.sigmoid', Type.string, 'table'],
    ['tokenizer.ggml.model', Type.string, 'byte'],
    ['tokenizer.ggml.bos_token_id', Type.u32, 254],
    ['tokenizer.ggml.eos_token_id', Type.u32, 255],
  ];
  const tensors: { name: string; shape: number[]; type: number }[] = [];
  const vector = (name: string, size: number): void => void tensors.push({ name, shape: [size], type: kF32 });
  const linear = (name: string, cols: number, rows: number): void => {
    vector(`${name}.in_norm.weight`, cols);
    tensors.push({ name: `${name}.weight`, shape: [cols, rows], type: kTq2 });
  };
  tensors.push({ name: 'token_embd.weight', shape: [hidden, 256], type: kF32 });
  for (let n = 0; n < layers; n++) {
    vector(`blk.${n}.attn_norm.weight`, hidden);
    for (const name of ['attn_i', 'attn_f', 'attn_g', 'attn_o']) linear(`blk.${n}.${name}`, hidden, hidden);
    vector(`blk.${n}.gate_norm.weight`, hidden);
    vector(`blk.${n}.ffn_norm.weight`, hidden);
    linear(`blk.${n}.ffn_gate_up`, hidden, 2 * intermediate);
    linear(`blk.${n}.ffn_down`, intermediate, hidden);
  }
  vector('output_norm.weight', hidden);
  linear('output', hidden, 256);

  bytes.push(...Buffer.from('GGUF'));
  u32(3);
  u64(tensors.length);
  u64(keys.length);
  for (const [key, type, value] of keys) {
    text(key);
    u32(type);
    if (typeof value === 'string') text(value);
    else u32(value);
  }
  let offset = 0;
  for (const { name, shape, type } of tensors) {
    text(name);
    u32(shape.length);
    shape.forEach(u64);
    u32(type);
    u64(offset);
    const elements = shape.reduce((a, b) => a * b);
    offset += Math.ceil((type === kF32 ? 4 * elements : (elements / 256) * 66) / 32) * 32;
  }
  while (bytes.length % 32 !== 0) bytes.push(0);
  return Uint8Array.from(bytes);
}

async function pushHeader(sizes: Sizes): Promise<{ engine: Engine; push: () => number }> {
  const script: { default: ModuleFactory } = await import(new URL('tern-simd.js', kWasm).href);
  const engine = await Engine.fromWasm(
    script.default,
    Uint8Array.from(readFileSync(new URL('tern-simd.wasm', kWasm))),
    'simd',
    '',
  );
  const loader = engine.newLoader(null);
  return { engine, push: () => loader.push(header(sizes)) };
}

describe('a model of gigabytes', () => {
  test('that fits is begun: its size is known before its data, and memory is taken for the weights alone', async () => {
    const { engine, push } = await pushHeader({ hidden: 2560, intermediate: 6912, layers: 4 });
    const file = push();
    expect(file).toBeGreaterThan(80e6);
    const before = engine.memoryBytes;
    expect(before).toBeLessThan(8 << 20); // nothing yet: the first row has not come
  });

  test('takes memory for what has arrived, not for what its header claims', async () => {
    const script: { default: ModuleFactory } = await import(new URL('tern-simd.js', kWasm).href);
    const wasm = Uint8Array.from(readFileSync(new URL('tern-simd.wasm', kWasm)));
    const engine = await Engine.fromWasm(script.default, wasm, 'simd', '');
    const loader = engine.newLoader(null);
    // 1.6 GB by its header, of which a row of the largest matrix is there.
    const file = Uint8Array.from(readFileSync(new URL('../data/huge-claim.gguf', import.meta.url)));
    expect(loader.push(file)).toBe(1604421248);
    expect(() => loader.finish()).toThrow(/expected a file of 1604421248 bytes, found 5120: it is truncated/);
    expect(engine.memoryBytes).toBeLessThan(8 << 20);
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
