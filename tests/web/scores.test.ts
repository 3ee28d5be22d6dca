// What each token costs, as it comes: the integers of the engine, pulled by whoever reads them.
// SPDX-License-Identifier: MIT

import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { load, type Model, type TokenScore } from '../../web/src/index.js';
import { anyModel, toHex } from './golden.js';

let model: Model;

beforeAll(async () => {
  model = await load(anyModel());
});

afterAll(async () => model.close());

async function all(scores: AsyncIterable<TokenScore>): Promise<TokenScore[]> {
  const list = [];
  for await (const each of scores) list.push(each);
  return list;
}

/** Written down from the definition, in floating point. */
function entropyOf(probabilities: Float64Array): number {
  return probabilities.reduce((sum, p) => (p > 0 ? sum - p * Math.log2(p) : sum), 0);
}

describe('the score of each token', () => {
  test('is that of the text in parts, whatever is asked for besides', async () => {
    const text = 'Once upon a time 🦊'.repeat(20);
    const { bits, tokens, top1, top5 } = await model.score(text);
    for (const top of [0, 1, 7, 256]) {
      const scores = await all(model.scoreStream(text, { top }));
      expect(scores.length).toBe(tokens);
      expect(scores.reduce((sum, each) => sum + each.bits, 0)).toBe(bits);
      expect(scores.filter(({ rank }) => rank < 1).length / tokens).toBe(top1);
      expect(scores.filter(({ rank }) => rank < 5).length / tokens).toBe(top5);
      expect(new Set(scores.map((each) => each.top.length))).toEqual(new Set([top]));
      expect(scores.map((each) => each.text).join('')).toBe(text);
    }
  });

  test('says what next() says: rank, entropy and the most likely', async () => {
    const text = new TextEncoder().encode('Once');
    const scores = await all(model.scoreStream(text, { top: 5 }));
    await using session = model.session();
    for (const [n, byte] of text.entries()) {
      const score = scores[n];
      const { logits, probabilities } = await session.next();
      const order = Array.from(logits.keys()).sort((a, b) => (logits[b] ?? 0) - (logits[a] ?? 0) || a - b);
      expect(score).toMatchObject({ token: byte, rank: order.indexOf(byte) });
      expect(score?.bytes).toEqual(Uint8Array.of(byte));
      expect(score?.top.map(({ token }) => token)).toEqual(order.slice(0, 5));
      expect(score?.entropy).toBeCloseTo(entropyOf(probabilities), 4);
      for (const { token, bytes, probability } of score?.top ?? []) {
        expect(bytes).toEqual(Uint8Array.of(token));
        expect(probability).toBeCloseTo(probabilities[token] ?? 0, 5);
        expect(Number.isInteger(probability * 2 ** 31)).toBe(true);
      }
      expect(Number.isInteger((score?.bits ?? NaN) * 2 ** 32)).toBe(true);
      expect(Number.isInteger((score?.entropy ?? NaN) * 2 ** 24)).toBe(true);
      await session.feed(Uint8Array.of(byte));
    }
  });

  test('has the text of a character that was begun before it', async () => {
    const fox = new TextEncoder().encode('🦊');
    await using session = model.session();
    await session.feed(fox.subarray(0, 2));
    expect((await all(session.scoreStream(fox.subarray(2)))).map(({ text }) => text)).toEqual(['', '🦊']);
  });
});

describe('a stream of scores', () => {
  test('pauses when nobody reads, and others go on', async () => {
    const scores = model.scoreStream('x'.repeat(100_000));
    expect((await scores.next()).value?.bytes).toEqual(Uint8Array.of(120));
    await using session = model.session();
    const behind = session.scoreStream('y'.repeat(3000));
    await behind.next();
    const waits = session.feed('z');
    expect((await model.generate('x', { maxBytes: 3, greedy: true })).bytes.length).toBeGreaterThan(0);
    await behind.return();
    await waits;
    expect(session.position).toBeGreaterThan(1);
    expect(session.position).toBeLessThan(1000); // what was read, and what may be there before anybody reads it
    await scores.return();
  });

  test('is part of the text, in the order of the calls', async () => {
    await using session = model.session();
    const scores = session.scoreStream('ab'.repeat(700));
    const saved = session.save();
    await all(scores);
    await using other = model.session();
    await other.feed('ab'.repeat(700));
    expect(toHex(await saved)).toBe(toHex(await other.save()));
  });

  test('that is left before its first look costs nothing more', async () => {
    await using session = model.session();
    const scores = session.scoreStream('x'.repeat(1_000_000));
    expect(await scores.return()).toEqual({ done: true, value: undefined });
    await session.feed('y');
    expect(await scores.next()).toEqual({ done: true, value: undefined });
    expect(session.position).toBeLessThan(2000);
  });

  test('ends with the reason of its signal', async () => {
    const controller = new AbortController();
    const scores = model.scoreStream('x'.repeat(100_000), { signal: controller.signal });
    await scores.next();
    controller.abort('mine');
    await expect(all(scores)).rejects.toBe('mine');
    expect(await scores.next()).toEqual({ done: true, value: undefined });
  });

  test('of nothing is empty', async () => {
    expect(await all(model.scoreStream(''))).toEqual([]);
  });

  test.each([-1, 257, 1.5, '3'])('refuses top: %s before anything runs', (top) => {
    expect(() => model.scoreStream('x', JSON.parse(JSON.stringify({ top })))).toThrow(
      /^top must be a whole number from 0 to 256, found/,
    );
  });
});
