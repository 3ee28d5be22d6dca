// Conversations that all stop in the middle of their tiles come to what each comes to alone.
// SPDX-License-Identifier: MIT

import { afterEach, describe, expect, test, vi } from 'vitest';
import { EngineSession } from '../../web/src/engine/engine.js';
import { Pace } from '../../web/src/host/jobs.js';
import { load, type Model } from '../../web/src/index.js';
import { goldens, modelOf, toHex } from './golden.js';

const kTexts = ['Once upon a time, there was a little girl. ', 'The dog and the fox were friends, and one day they '];
const kTiny = goldens().filter(([name]) => name.startsWith('tiny_'));

afterEach(() => vi.restoreAllMocks());

/** Every slice ends after a part of a tile. Answers how often each of the engine's sessions stopped inside one. */
function stopOften(): Map<EngineSession, number> {
  vi.spyOn(Pace.prototype, 'budget', 'get').mockReturnValue(20_000);
  const stops = new Map<EngineSession, number>();
  for (const method of ['feedWithBoundaries', 'generate', 'score'] as const) {
    const original = Reflect.get(EngineSession.prototype, method) as (this: EngineSession, ...args: unknown[]) => never;
    vi.spyOn(EngineSession.prototype, method).mockImplementation(function (this: EngineSession, ...args: unknown[]) {
      const result = original.apply(this, args);
      if (this.isInsideBatch) stops.set(this, (stops.get(this) ?? 0) + 1);
      return result;
    });
  }
  return stops;
}

/** What a conversation about each text comes to, all at once or one after the other. */
async function outcomes(model: Model, atOnce: boolean): Promise<unknown[]> {
  const talk = async (text: string, seed: number): Promise<unknown> => {
    await using session = model.session();
    await session.feed(text);
    const { bytes, finish } = await session.stream({ seed, maxTokens: 20 }).result;
    const boundaries = await model.stream(text, { seed, maxTokens: 1 }).promptBoundaries;
    const score = await session.score(text);
    return [toHex(bytes), finish, boundaries, score, session.position, toHex(await session.save())];
  };
  if (atOnce) return Promise.all(kTexts.map(talk));
  const results = [];
  for (const [seed, text] of kTexts.entries()) results.push(await talk(text, seed));
  return results;
}

describe.each(kTiny)('%s', (_, golden) => {
  test('two that read, write and score at once', async () => {
    await using model = await load(modelOf(golden), { runtime: 'main' });
    const alone = await outcomes(model, false);
    const stops = stopOften();
    expect(await outcomes(model, true)).toEqual(alone);
    expect(stops.size).toBe(4); // a session for each conversation, and for each generation of the model
    for (const count of stops.values()) expect(count).toBeGreaterThan(10);
  });

  test('one that is called off inside a tile, and goes on after the other one worked', async () => {
    await using model = await load(modelOf(golden), { runtime: 'main' });
    const [text, other] = kTexts.map((each) => Uint32Array.from(new TextEncoder().encode(each.repeat(20)))); // tokens
    if (!text || !other) throw new Error('expected two texts');
    const stops = stopOften();
    await using first = model.session();
    await using second = model.session();
    const controller = new AbortController();
    const reading = first.feed(text, { signal: controller.signal });
    while (![...stops.keys()].some((each) => each.isInsideBatch && each.position > 0)) {
      await new Promise((resolve) => setImmediate(resolve));
    }
    controller.abort();
    await expect(reading).rejects.toMatchObject({ name: 'AbortError' });
    await second.feed(other);
    const { position } = first;
    expect(position).toBeGreaterThan(0);
    expect(position).toBeLessThan(text.length);
    await first.feed(text.subarray(position));
    expect(stops.size).toBe(2);
    vi.restoreAllMocks();
    for (const [session, whole] of [
      [first, text],
      [second, other],
    ] as const) {
      await using alone = model.session();
      await alone.feed(whole);
      expect(toHex(await session.save())).toBe(toHex(await alone.save()));
    }
  });
});
