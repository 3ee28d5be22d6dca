// What a model writes meets its constraint, ends before its stop, tells its probabilities, and pauses when it is told to.
// SPDX-License-Identifier: MIT

import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { compile, meets } from '../../web/src/constraints/index.js';
import { load, type Chunk, type GenerateOptions, type Generation, type Model } from '../../web/src/index.js';
import { findEndlessPrompt } from './endless.js';
import { anyModel, goldens, modelOf, toHex } from './golden.js';

const [, golden] = goldens().find(([name]) => name === 'tiny_tokens.json') ?? [];
if (!golden) throw new Error('expected the golden file tiny_tokens.json');
const ofPieces = modelOf(golden);

let bytes: Model;
let pieces: Model;
let endless: Uint8Array;

beforeAll(async () => {
  [bytes, pieces] = await Promise.all([load(anyModel()), load(ofPieces)]);
  endless = await findEndlessPrompt(bytes);
});

afterAll(async () => {
  await bytes.close();
  await pieces.close();
});

const both = (): Model[] => [bytes, pieces];

async function read(model: Model, prompt: string, options: GenerateOptions) {
  const generation = model.stream(prompt, options);
  const chunks: Chunk[] = [];
  for await (const chunk of generation) chunks.push(chunk);
  const result = await generation.result;
  expect(chunks.map((chunk) => chunk.text).join('')).toBe(result.text);
  expect(toHex(Buffer.concat(chunks.map((chunk) => chunk.bytes)))).toBe(toHex(result.bytes));
  expect(chunks.flatMap((chunk) => [...chunk.tokens])).toEqual([...result.tokens]);
  return result;
}

describe('a constraint', () => {
  test('is met by what each model writes, however short it must be', async () => {
    const jsonSchema = {
      type: 'object',
      properties: {
        name: { type: 'string' },
        age: { type: 'integer' },
        friends: { type: 'array', items: { type: 'string' } },
      },
      required: ['name', 'friends'],
    };
    const automaton = compile({ jsonSchema });
    for (const model of both()) {
      for (let seed = 0; seed < 12; seed++) {
        const maxTokens = [automaton.distance[0] ?? 0, 40, 100][seed % 3] ?? 0;
        const { text, finish, tokens } = await read(model, 'Once', { seed, maxTokens, constraint: { jsonSchema } });
        expect([text, meets(automaton, text)]).toEqual([text, true]);
        expect(JSON.parse(text)).toHaveProperty('friends');
        expect(finish === 'end-of-text' || tokens.length === maxTokens).toBe(true);
      }
    }
  });

  test('leaves the choice to the model, and is the same everywhere for one seed', async () => {
    for (const model of both()) {
      const choices = ['red', 'green', 'blue', 'bluish green'];
      const drawn = new Set<string>();
      for (let seed = 0; seed < 30; seed++) {
        const { text, finish } = await model.generate('A', { seed, constraint: { choices } });
        expect(choices).toContain(text);
        expect(finish).toBe('end-of-text');
        expect((await model.generate('A', { seed, constraint: { choices } })).text).toBe(text);
        drawn.add(text);
      }
      expect(drawn.size).toBeGreaterThan(1);
    }
  });

  test('begins a character of its own where the prompt ends inside one', async () => {
    const inside = Uint8Array.of(0xf0, 0x9f);
    const { text } = await bytes.generate(inside, { seed: 1, constraint: { regex: 'ab' } });
    expect(text).toBe('ab');
  });

  test('that cannot be met is an error, and the session goes on as it was', async () => {
    await using session = bytes.session();
    await session.feed('Once');
    const refused = [
      session.stream({ constraint: { regex: '(a)\\1' } }),
      session.stream({ constraint: { regex: 'abc' }, maxBytes: 2 }),
    ];
    for (const each of refused) await expect(each.result).rejects.toMatchObject({ code: 'bad-option' });
    await expect(refused[1]?.result).rejects.toThrow(
      /room for the 3 bytes that the constraint needs at least, found 2/,
    );
    await expect(read(bytes, 'x', { constraint: { regex: '[' } })).rejects.toMatchObject({ code: 'bad-option' });
    expect(session.position).toBe(4);
    const { text } = await session.stream({ seed: 3, maxBytes: 30 }).result;
    expect(text).toBe((await bytes.generate('Once', { seed: 3, maxBytes: 30 })).text);
  });
});

describe('a stop', () => {
  test('ends the output before it, wherever chunks have their borders, and the session with it', async () => {
    for (const model of both()) {
      const free = await model.generate('Once', { seed: 3, maxTokens: 300 });
      const letter = /[a-z]/.exec(free.text.slice(50))?.[0] ?? '';
      const stops = [free.text.slice(40, 43), new RegExp(`[${letter}]`)];
      for (const stop of stops) {
        const found = typeof stop === 'string' ? free.text.indexOf(stop) : free.text.search(stop);
        await using session = model.session();
        await session.feed('Once');
        const { text, finish, tokens } = await session.stream({ seed: 3, maxTokens: 300, stop }).result;
        expect([text, finish]).toEqual([free.text.slice(0, found), 'stop']);
        expect([...tokens]).toEqual([...free.tokens.subarray(0, tokens.length)]);
        expect(session.position).toBe((await position(model, 'Once')) + tokens.length);
        expect((await read(model, 'Once', { seed: 3, maxTokens: 300, stop: [stop, 'never\u0000'] })).text).toBe(text);
      }
    }
  });

  test('that does not come changes nothing', async () => {
    for (const model of both()) {
      const options = { seed: 5, maxTokens: 80 };
      const free = await model.generate('x', options);
      const last = free.text.slice(-1);
      const result = await read(model, 'x', { ...options, stop: `${last}\u0000` });
      expect(result).toMatchObject({ text: free.text, finish: free.finish });
      expect(toHex(result.bytes)).toBe(toHex(free.bytes));
    }
  });

  test('and a constraint hold together', async () => {
    const { text, finish } = await read(bytes, 'x', { seed: 2, stop: 'bb', constraint: { regex: '[ab]{60}' } });
    expect(text).toMatch(/^[ab]*$/);
    expect(text).not.toContain('bb');
    expect(finish).toBe(text.length === 60 ? 'end-of-text' : 'stop');
  });
});

async function position(model: Model, text: string): Promise<number> {
  await using session = model.session();
  await session.feed(text);
  return session.position;
}

describe('probabilities', () => {
  test('are those that the session told before each token', async () => {
    for (const model of both()) {
      const options = { seed: 9, maxTokens: 12, temperature: 0.5 };
      const { tokens, logprobs } = await read(model, 'Once', { ...options, logprobs: 3 });
      const plain = await model.generate('Once', options);
      expect([...tokens]).toEqual([...plain.tokens]);
      expect(plain.logprobs).toBeNull();
      await using session = model.session();
      await session.feed('Once');
      for (const [i, each] of (logprobs ?? []).entries()) {
        const { probabilities } = await session.next();
        const order = [...probabilities.keys()].sort((a, b) => (probabilities[b] ?? 0) - (probabilities[a] ?? 0));
        expect(each.token).toBe(tokens[i]);
        expect(each.logprob).toBeCloseTo(Math.log(probabilities[each.token] ?? 0), 9);
        expect(each.top.map(({ token }) => token)).toEqual(order.slice(0, 3));
        expect(Math.exp(each.top[0]?.logprob ?? 0)).toBeCloseTo(probabilities[order[0] ?? 0] ?? 0, 9);
        await session.feed(Uint32Array.of(each.token));
      }
      expect(logprobs).toHaveLength(tokens.length);
    }
  });

  test('without others, and of a wrong number, which is refused', async () => {
    const { logprobs } = await bytes.generate('x', { seed: 1, maxBytes: 5, logprobs: true });
    expect(logprobs?.every(({ top }) => top.length === 0)).toBe(true);
    for (const logprobs of [-1, 1.5, 257]) {
      await expect(bytes.generate('x', { logprobs })).rejects.toMatchObject({ code: 'bad-option' });
    }
  });
});

describe('a pause', () => {
  test('holds the writing back until it ends, and other sessions go on meanwhile', async () => {
    const generation = bytes.stream(endless, { greedy: true, maxBytes: 3000 });
    const chunks = generation[Symbol.asyncIterator]();
    await chunks.next();
    generation.pause();
    await bytes.generate('x', { maxBytes: 1000 }); // whatever was under way has come
    const held = generation.keptTokens;
    void generation.result;
    await bytes.generate('x', { maxBytes: 1000 });
    expect(generation.keptTokens).toBe(held);
    expect(held).toBeLessThan(3000);
    generation.resume();
    const { bytes: whole } = await generation.result;
    expect(toHex(whole)).toBe(toHex((await bytes.generate(endless, { greedy: true, maxBytes: 3000 })).bytes));
  });

  test('can begin before anything was read, and be ended by stop()', async () => {
    const generation = bytes.stream(endless, { greedy: true, maxBytes: 3000, stop: 'never\u0000' });
    generation.pause();
    await bytes.generate('x', { maxBytes: 100 });
    expect(generation.keptTokens).toBe(0);
    expect((await generation.stop()).finish).toBe('stopped');
    const other = bytes.stream(endless, { greedy: true, maxBytes: 30, stop: 'never\u0000' });
    other.pause();
    other.resume();
    expect((await other.result).bytes).toHaveLength(30);
  });
});

describe('a call that is called off while it waits for what it needs', () => {
  test('ends with its signal’s reason, and later calls on the session come after it', async () => {
    await using session = bytes.session();
    const controller = new AbortController();
    const generation = session.stream({ constraint: { regex: 'a*' }, signal: controller.signal });
    const fed = session.feed('Once');
    controller.abort();
    await expect(generation.result).rejects.toMatchObject({ name: 'AbortError' });
    await fed;
    expect(session.position).toBe(4);
    const [streamed, more] = [session.stream({ constraint: { regex: 'aaa' } }), session.feed('b')];
    expect((await streamed.result).text).toBe('aaa');
    await more;
    expect(session.position).toBe(8);
  });
});

describe('a checkpoint', () => {
  const kTricky = { seed: 4, maxTokens: 160, repetitionPenalty: 1.2, topK: 40 };
  const jsonSchema = { type: 'object', properties: { a: { type: 'string', minLength: 30 } }, required: ['a'] };

  test.each<[string, GenerateOptions]>([
    ['a plain generation', kTricky],
    ['one with a constraint', { ...kTricky, constraint: { jsonSchema } }],
    ['one with a stop', { ...kTricky, stop: [/q[aeiou]|zzz/, 'never\u0001'] }],
  ])('of %s goes on with the same bytes, in another load of the model', async (_, options) => {
    for (const [model, file] of [
      [bytes, anyModel()],
      [pieces, ofPieces],
    ] as const) {
      const whole = await model.generate('Once upon', options);
      const paused = model.stream('Once upon', options);
      const first = await paused[Symbol.asyncIterator]().next();
      paused.pause();
      if (first.done || whole.tokens.length === first.value.tokens.length) continue; // it was over with the first chunk
      const kept = await paused.checkpoint();
      await using other = await load(file);
      const resumed = await other.resume(kept);
      const result = await resumed.result;
      expect(toHex(result.bytes)).toBe(toHex(whole.bytes));
      expect(result).toMatchObject({ text: whole.text, finish: whole.finish, seed: whole.seed });
      paused.resume();
      expect(toHex((await paused.result).bytes)).toBe(toHex(whole.bytes));
    }
  });

  test('of each place gives the same bytes, and a checkpoint of what goes on does, too', async () => {
    const options = { seed: 8, maxBytes: 60, utf8: 'raw' } as const;
    const whole = await bytes.generate(endless, options);
    let kept: string | null = null;
    for (let round = 0; round < 3; round++) {
      const generation: Generation = kept === null ? bytes.stream(endless, options) : await bytes.resume(kept);
      const reader = generation[Symbol.asyncIterator]();
      await reader.next();
      generation.pause();
      const now = await generation.checkpoint().catch(() => kept); // or it has ended by now
      expect(toHex((await (generation.resume(), generation.result)).bytes)).toBe(toHex(whole.bytes));
      kept = now;
    }
    if (kept !== null) expect(toHex((await (await bytes.resume(kept)).result).bytes)).toBe(toHex(whole.bytes));
  });

  test('that is damaged, of another model, or of what has ended, is refused', async () => {
    const generation = bytes.stream(endless, { greedy: true, maxBytes: 5000 });
    await generation[Symbol.asyncIterator]().next();
    generation.pause();
    const kept = await generation.checkpoint();
    for (const broken of [
      '',
      '{}',
      '7',
      kept.slice(0, -9),
      kept.replace('"maxTokens":5000', '"maxTokens":-1'),
      kept.replace('"tokens":{', '"token":{'),
    ]) {
      await expect(bytes.resume(broken)).rejects.toMatchObject({ code: 'bad-option' });
    }
    await expect(pieces.resume(kept)).rejects.toMatchObject({ name: 'TernError' });
    await expect(bytes.resume(7 as unknown as string)).rejects.toMatchObject({ code: 'bad-option' });
    await generation.stop();
    await expect(generation.checkpoint()).rejects.toMatchObject({ code: 'bad-state' });
  });
});
