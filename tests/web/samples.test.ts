// Samples of one prompt are the outputs that the model writes with their seeds.
// SPDX-License-Identifier: MIT

import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { EngineSession } from '../../web/src/engine/engine.js';
import { samples } from '../../web/src/entries/samples.js';
import { load, type GenerateOptions, type Model } from '../../web/src/index.js';
import { bitnet } from './bitnet.js';
import { anyModel, goldens, modelOf, toHex } from './golden.js';

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

const kinds = [
  ...goldens()
    .filter(([name]) => /^tiny_(state|tokens|hnet|gate)\.json$/.test(name))
    .map(([name, golden]) => [name, async () => load(modelOf(golden))] as const),
  ['a model of attention, whose memory grows', async () => load(bitnet(400))] as const,
];

describe.each(kinds)('what is written at once (%s)', (_, open) => {
  test('is written together, with the weights read once, and each is as it would be alone', async () => {
    await using one = await open();
    const together = vi.spyOn(EngineSession, 'generateEach');
    const isBytes = one.info.vocabulary.size === 256;
    const orders = Array.from({ length: 20 }, (_, i): [string, GenerateOptions] => [
      'abcdefgh'.slice(0, i % 8),
      {
        seed: i,
        maxTokens: 5 + ((i * 29) % 170),
        ...(i % 4 === 1 && { greedy: true }),
        ...(i % 5 === 2 && { repetitionPenalty: 1.4 }),
        ...(i === 3 && { stop: /[aeiou]/ }),
        ...(i === 6 && isBytes && { constraint: { regex: /[a-f ]{4,40}/ } }),
        ...(i === 9 && { logprobs: 2 }),
      },
    ]);
    const generations = orders.map(([prompt, options]) => one.stream(prompt, options));
    const kept = one.session();
    await kept.feed('abc');
    const score = one.score('a text that is read meanwhile');
    const left = one.stream('abc', { seed: 5, maxTokens: 100_000, greedy: true }); // called off in the middle
    await left[Symbol.asyncIterator]().next();
    generations[19]?.pause();
    await left.stop();
    generations[19]?.resume();
    const [own] = await Promise.all([kept.stream({ seed: 99, maxTokens: 300 }).result, score]);
    const found = await Promise.all(generations.map((each) => each.result));
    expect(Math.max(...together.mock.calls.map(([sessions]) => sessions.length))).toBeGreaterThan(8);
    together.mockRestore();
    for (const [i, [prompt, options]] of orders.entries()) {
      const { tokens, text, finish } = await one.generate(prompt, options);
      expect({ i, ...found[i] }).toMatchObject({ i, tokens, text, finish });
    }
    const alone = await one.generate('abc', { seed: 99, maxTokens: 300 });
    expect(toHex(own.bytes)).toBe(toHex(alone.bytes));
    await kept.rewind(5); // a session that can go back knows what it wrote in company
    expect(kept.position).toBe(5);
    const again = await kept.stream({ seed: 1, maxTokens: 20 }).result;
    const prompt = Uint32Array.from([
      ...one.codec.encode(new TextEncoder().encode('abc'), { control: false, begins: true }),
      ...alone.tokens,
    ]);
    expect([...again.tokens]).toEqual([...(await one.generate(prompt.slice(0, 5), { seed: 1, maxTokens: 20 })).tokens]);
  });
});
