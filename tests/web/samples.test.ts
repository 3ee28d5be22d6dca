// Samples of one prompt are the outputs that the model writes with their seeds.
// SPDX-License-Identifier: MIT

import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { samples } from '../../web/src/entries/samples.js';
import { load, type Model } from '../../web/src/index.js';
import { anyModel, toHex } from './golden.js';

let model: Model;

beforeAll(async () => {
  model = await load(anyModel());
});

afterAll(async () => model.close());

describe('samples', () => {
  test.each([7, 2n ** 64n - 2n])('after one prompt are those of the seeds from %s on', async (seed) => {
    const options = { maxBytes: 60, temperature: 1.3, stop: 'q' };
    const generations = await samples(model, 'Once upon', { ...options, n: 4, seed });
    const results = await Promise.all(generations.map((each) => each.result));
    expect(new Set(results.map(({ text }) => text)).size).toBe(4);
    for (const [i, result] of results.entries()) {
      const own = (BigInt(seed) + BigInt(i)) % (1n << 64n);
      const alone = await model.generate('Once upon', { ...options, seed: own });
      expect(toHex(result.bytes)).toBe(toHex(alone.bytes));
      expect(result).toMatchObject({ text: alone.text, finish: alone.finish, seed: alone.seed });
    }
  });

  test('without a seed have different ones, and can be a single one', async () => {
    const [only, ...others] = await samples(model, new Uint8Array(0), { n: 1, maxBytes: 9 });
    expect(others).toEqual([]);
    expect((await only?.result)?.bytes.length).toBeLessThanOrEqual(9);
  });

  test('of wrong options are refused', async () => {
    for (const n of [0, 1.5, 257])
      await expect(samples(model, 'x', { n })).rejects.toMatchObject({ code: 'bad-option' });
    await expect(samples(model, 'x', { n: 2, topK: 0 })).rejects.toMatchObject({ code: 'bad-option' });
    const signal = AbortSignal.abort();
    await expect(samples(model, 'x', { n: 2, signal })).rejects.toMatchObject({ name: 'AbortError' });
  });
});
