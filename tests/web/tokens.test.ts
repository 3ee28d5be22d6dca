// A model whose tokens are pieces of text is used as one of bytes is: texts go in, texts come out, no character is split.
// SPDX-License-Identifier: MIT

import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { load, type Model, type Session } from '../../web/src/index.js';
import { Tokenizer } from '../../web/src/tokenizer.js';
import { hgrnbit, pieceKeys, whole } from './gguf.js';
import { fromHex, goldens, modelOf, toHex } from './golden.js';
import { madeUp } from './pieces.js';

const [, golden] = goldens().find(([name]) => name === 'tiny_tokens.json') ?? [];
if (!golden) throw new Error('expected the golden file tiny_tokens.json');
const file = modelOf(golden);

/** The tokenizer.json in the file: behind its key a type, a length and the text. */
const kKey = 'tokenizer.huggingface.json';
const at = Buffer.from(file.buffer).indexOf(kKey) + kKey.length + 12;
const size = Number(Buffer.from(file.buffer).readBigUInt64LE(at - 8));
const tokenizer = Tokenizer.fromJson(new TextDecoder().decode(file.subarray(at, at + size)));

let model: Model;

beforeAll(async () => {
  model = await load(file);
});

afterAll(async () => model.close());

const kWild = { seed: 3, maxTokens: 200, temperature: 2 };

/** The file with other bytes in one place, which has no checksum any more. */
function edited(from: string, to: string): Uint8Array<ArrayBuffer> {
  const copy = file.slice();
  const replace = (old: string, now: string): void => {
    const at = Buffer.from(copy.buffer).indexOf(old);
    if (at < 0 || old.length !== now.length) throw new Error(`cannot put ${now} in place of ${old}`);
    copy.set(Buffer.from(now), at);
  };
  replace('tern.sha256', 'some.sha256');
  replace(from, to);
  return copy;
}

describe('a model of pieces', () => {
  test('says so', () => {
    expect(model.info.vocabulary).toEqual({ size: 512, bos: 1, eos: 2 });
    expect(model.info.metadata['tokenizer.ggml.model']).toBe('llama');
    expect(model.info.metadata).not.toHaveProperty('tokenizer.huggingface.json');
  });

  test('gives tokens, their bytes and their text, in every chunk and in the result', async () => {
    const generation = model.stream('Once', kWild);
    let [tokens, bytes, text]: [number[], number[], string] = [[], [], ''];
    for await (const chunk of generation) {
      expect(toHex(chunk.bytes)).toBe(toHex(tokenizer.decode(chunk.tokens)));
      tokens = [...tokens, ...chunk.tokens];
      bytes = [...bytes, ...chunk.bytes];
      text += chunk.text;
    }
    const result = await generation.result;
    expect(result).toMatchObject({ finish: 'max-tokens', from: 0, boundaries: null });
    expect([Array.from(result.tokens), Array.from(result.bytes), result.text]).toEqual([tokens, bytes, text]);
    expect(tokens).toHaveLength(200);
    expect(result.timings.tokensPerSecond).toBeGreaterThan(0);
  });

  test('splits no character between chunks, whatever the cut', async () => {
    await using session = model.session();
    const pieces = [];
    for (let i = 0; i < 60; i++) {
      const { bytes, text } = await session.stream({ ...kWild, seed: i, maxTokens: 1 }).result;
      pieces.push({ bytes, text });
    }
    const whole = Uint8Array.from(pieces.flatMap(({ bytes }) => Array.from(bytes)));
    const decoder = new TextDecoder('utf-8', { ignoreBOM: true });
    expect(pieces.map(({ text }) => text).join('')).toBe(decoder.decode(whole, { stream: true }));
  });

  test('reads a text in pieces, and tokens, as the text at once', async () => {
    const saved = async (feed: (session: Session) => Promise<unknown>): Promise<string> => {
      await using session = model.session();
      await feed(session);
      return toHex(await session.save());
    };
    const tokens = Uint32Array.from([...tokenizer.encode('a cat'), ...tokenizer.encode('ch', { begins: false })]);
    const whole = await saved((session) => session.feed(tokens));
    const inPieces = async (session: Session): Promise<void> => {
      const first = session.feed('a cat'); // not awaited: the next one knows that it comes after it
      await session.feed('ch');
      await first;
      expect(session.position).toBe(tokens.length);
    };
    expect(await saved(inPieces)).toBe(whole);
    expect(await saved((session) => session.feed(new TextEncoder().encode('a cat')))).toBe(
      await saved((session) => session.feed('a cat')),
    );
    const again = async (session: Session): Promise<void> => {
      await session.score('Once');
      await session.reset();
      await inPieces(session);
    };
    expect(await saved(again)).toBe(whole);
  });

  test('begins a text without the space that its tokenizer puts there', async () => {
    await using session = model.session();
    const { tokens, text } = await session.stream({ greedy: true, maxTokens: 30 }).result;
    expect(text).toBe(tokenizer.decoder().push(tokens));
    const after = await session.stream({ greedy: true, maxTokens: 30 }).result;
    expect(after.bytes).toEqual(tokenizer.decode(after.tokens));
  });

  test('takes the name of a control token as text, unless asked', async () => {
    await using session = model.session();
    await session.feed('</s>');
    expect(session.position).toBe(tokenizer.encode('</s>').length);
    await session.reset();
    await session.feed('</s>', { control: true });
    expect(session.position).toBe(1);
    const [text, control] = await Promise.all([
      model.generate('a</s>', kWild),
      model.generate('a</s>', { ...kWild, control: true }),
    ]);
    expect(toHex(text.bytes)).not.toBe(toHex(control.bytes));
    const tokens = tokenizer.encode('a</s>', { control: true });
    expect(toHex((await model.generate(tokens, kWild)).bytes)).toBe(toHex(control.bytes));
  });

  test('scores tokens, and tells what they cost a byte of the text', async () => {
    const text = 'Once upon a time, “there” was 🦉.';
    const score = await model.score(text);
    const bytes = new TextEncoder().encode(text).length;
    const tokens = tokenizer.encode(text);
    expect(score).toMatchObject({ bytes, tokens: tokens.length });
    expect(score.bitsPerByte).toBe(score.bits / bytes);
    expect(await model.score(tokens)).toEqual(score);
    await using session = model.session();
    const parts = [await session.score(tokens.subarray(0, 4)), await session.score(tokens.subarray(4))];
    expect(parts.reduce((sum, { bytes }) => sum + bytes, 0)).toBe(bytes);
    expect(parts.reduce((sum, { bits }) => sum + bits, 0)).toBeCloseTo(score.bits, 6);
  });

  test('goes on after save and restore where it was, inside a character too', async () => {
    await using session = model.session();
    await session.feed('Once');
    await session.feed(tokenizer.encode('🦉', { begins: false }).subarray(0, 2)); // a byte is a piece
    await using other = model.session();
    await other.restore(await session.save());
    const [a, b] = await Promise.all([session.stream(kWild).result, other.stream(kWild).result]);
    expect([a.text, toHex(a.bytes)]).toEqual([b.text, toHex(b.bytes)]);
    const expected = tokenizer.decoder(false);
    const before = expected.push(tokenizer.encode('🦉', { begins: false }).subarray(0, 2));
    expect(before + a.text).toBe(before + expected.push(a.tokens) + expected.finish(true));
  });

  test('is cut to any number of its tokens by topK', async () => {
    const all = await model.generate('Once', { seed: 1, maxTokens: 50 });
    const [same, greedy] = await Promise.all([
      model.generate('Once', { seed: 1, maxTokens: 50, topK: 512 }),
      model.generate('Once', { greedy: true, maxTokens: 50 }),
    ]);
    expect(toHex(same.bytes)).toBe(toHex(all.bytes));
    expect(toHex((await model.generate('Once', { topK: 1, maxTokens: 50 })).bytes)).toBe(toHex(greedy.bytes));
  });

  test('keeps what the golden file says when many write at once', async () => {
    const all = golden.generations.map(({ options }) => model.generate(fromHex(golden.prompt), options));
    for (const [i, { tokens }] of (await Promise.all(all)).entries()) {
      expect(Array.from(tokens)).toEqual(golden.generations[i]?.tokens);
    }
  });
});

test('a vocabulary of 32,000 pieces is read, drawn from, saved and restored', async () => {
  const keys = pieceKeys('hgrnbit', 32000, madeUp(32000));
  // Its numbers are all 0, so that every piece is as likely as any other.
  await using large = await load(whole(hgrnbit({ hidden: 256, intermediate: 256, layers: 1 }, 32000, keys)));
  expect(large.info.vocabulary).toEqual({ size: 32000, bos: 1, eos: 2 });
  await using session = large.session();
  await session.feed('the cat');
  expect(session.position).toBe(4); // " t", "he", " c", "at"
  await using other = large.session();
  await other.restore(await session.save());
  const [a, b] = await Promise.all([session.stream(kWild).result, other.stream(kWild).result]);
  expect(toHex(a.bytes)).toBe(toHex(b.bytes));
  expect(a.tokens).toHaveLength(200);
  expect(Math.max(...a.tokens)).toBeGreaterThan(31000);
  expect((await large.score('the cat')).bits).toBeCloseTo(4 * Math.log2(32000), 2);
});

describe('a mistake', () => {
  test.each<[name: string, call: () => Promise<unknown>, message: RegExp]>([
    ['topK', () => model.generate('a', { topK: 513 }), /^topK must be a whole number from 1 to 512, found 513$/],
    ['maxBytes', () => model.generate('a', { maxBytes: 9 }), /^maxBytes: .* not bytes: expected only maxTokens$/],
    [
      'a token',
      () => model.generate(Uint32Array.of(5, 512)),
      /^prompt must be made of tokens from 0 to 511, found 512$/,
    ],
    [
      'a token of a score',
      () => model.score(Uint32Array.of(2 ** 32 - 1)),
      /^input must be made of tokens from 0 to 511/,
    ],
    ['control', () => model.generate('a', JSON.parse('{"control": 1}')), /^control must be true or false, found 1$/],
    ['an option of score', () => model.score('a', JSON.parse('{"trace": {}}')), /^unknown option trace; known are/],
  ])('with %s is refused, and changes nothing', async (_, call, message) => {
    await expect(call()).rejects.toMatchObject({ code: 'bad-option', message: expect.stringMatching(message) });
    await model.generate('a', { maxTokens: 1 });
  });

  test('in the middle of a long input leaves the text as it was', async () => {
    await using session = model.session();
    const tokens = new Uint32Array(5000).fill(300);
    tokens[4999] = 600;
    await expect(session.feed(tokens)).rejects.toMatchObject({ code: 'bad-option' });
    expect(session.position).toBe(0);
  });

  test('of a file without its tokenizer says what to do', async () => {
    await expect(load(edited(kKey, kKey.replace('.', '_')))).rejects.toMatchObject({
      code: 'unsupported',
      message: expect.stringMatching(/512 pieces.*convert it again, with its tokenizer.json$/),
    });
  });

  test('of a file whose tokenizer is damaged says so', async () => {
    await expect(load(edited('{"version":', '["version":'))).rejects.toMatchObject({ code: 'bad-file' });
    await expect(load(edited('"merges":', '"_erges":'))).rejects.toMatchObject({
      code: 'bad-file',
      message: expect.stringMatching(/no merges/),
    });
  });
});
