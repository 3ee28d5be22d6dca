// Texts that fill a model's context: every call ends, and says so. The architecture toy, which the package does not
// have, runs through the package in the scalar build of the engine.
// SPDX-License-Identifier: MIT

import { readFileSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { Engine, type ModuleFactory } from '../../web/src/engine/engine.js';
import { load, type Model } from '../../web/src/index.js';
import { byteKeys, header, linear, vector, whole } from './gguf.js';

const kContext = 50;
const kFull = { code: 'bad-state', message: `the context is full after ${kContext - 1} tokens: reset the session` };
const kWidth = 256;

/** All its numbers are 0, so every byte is as likely as every other, and the likeliest is 0. */
function toy(): Uint8Array<ArrayBuffer> {
  return whole(
    header(
      [...byteKeys('toy'), ['toy.block_count', 1], ['toy.embedding_length', kWidth], ['toy.context_length', kContext]],
      [
        vector('token_embd.weight', kWidth, 256),
        vector('blk.0.norm.weight', kWidth),
        ...['in', 'forget', 'out'].flatMap((name) => linear(`blk.0.${name}`, kWidth, kWidth)),
        vector('output_norm.weight', kWidth),
        ...linear('output', kWidth, 256),
      ],
    ),
  );
}

let model: Model;

beforeAll(async () => {
  const build = new URL('../../build/wasm/tern-scalar', import.meta.url);
  const script: { default: ModuleFactory } = await import(`${build.href}.js`);
  const wasm = Uint8Array.from(readFileSync(new URL(`${build.href}.wasm`)));
  vi.spyOn(Engine, 'start').mockImplementation(async () => Engine.fromWasm(script.default, wasm, 'simd', ''));
  model = await load(toy());
});

afterAll(async () => {
  await model.close();
  vi.restoreAllMocks();
});

describe('a text that fills the context', { timeout: 60_000 }, () => {
  test('may fill it exactly', async () => {
    await using session = model.session();
    await session.feed('x'.repeat(40));
    expect((await session.score('y'.repeat(9))).bits).toBe(72);
    expect(session.position).toBe(kContext - 1);
    expect(await session.feed('')).toEqual({ boundaries: null });
    expect((await session.score('')).bits).toBe(0);
  });

  test.each(['feed', 'score'] as const)('by %s leaves the part that fits, and fails', async (call) => {
    await using session = model.session();
    await session[call]('x'.repeat(30));
    await expect(session[call]('y'.repeat(2000))).rejects.toMatchObject(kFull);
    expect(session.position).toBe(kContext - 1);
    await expect(session[call]('z')).rejects.toMatchObject(kFull);
    await session.reset();
    await session[call]('z');
    expect(session.position).toBe(1);
  });

  test('as the prompt of a generation or a text to score fails', async () => {
    await expect(model.score('x'.repeat(kContext))).rejects.toMatchObject(kFull);
    await expect(model.generate('x'.repeat(kContext))).rejects.toMatchObject(kFull);
  });

  test('by what is written ends the generation with its own reason', async () => {
    const { bytes, finish } = await model.generate('x'.repeat(40), { greedy: true, maxBytes: 100 });
    expect([bytes.length, finish]).toEqual([9, 'context-full']);
  });
});
