// Calls on a session run in the order in which they were made, and it always knows how long its text is.
// SPDX-License-Identifier: MIT

import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { load, type Model, type Session } from '../../web/src/index.js';
import { findEndlessPrompt } from './endless.js';
import { anyModel, fromHex, goldens, modelOf, toHex } from './golden.js';

let model: Model;
let endless: Uint8Array;

beforeAll(async () => {
  model = await load(anyModel());
  endless = await findEndlessPrompt(model);
});

afterAll(async () => model.close());

const kBytes = { seed: 5, maxBytes: 40 };

/** What a session holds that was given these texts, one call after the other. */
async function stateOf(...texts: Uint8Array[]): Promise<string> {
  await using session = model.session();
  for (const text of texts) await session.feed(text);
  return toHex(await session.save());
}

describe('calls that nobody awaits', () => {
  test('run in the order in which they were made: stream, then feed', async () => {
    await using session = model.session();
    const [fed, streamed, more] = [session.feed('Once'), session.stream(kBytes), session.feed(' in China')];
    const { bytes } = await streamed.result;
    await Promise.all([fed, more]);
    const alone = await model.generate('Once', kBytes);
    expect(toHex(bytes)).toBe(toHex(alone.bytes));
    expect(session.position).toBe(4 + bytes.length + 9);
    const encode = (text: string): Uint8Array => new TextEncoder().encode(text);
    expect(toHex(await session.save())).toBe(await stateOf(encode('Once'), bytes, encode(' in China')));
  });

  test('stream, then reset: the output comes from the text before', async () => {
    await using session = model.session();
    await session.feed('Once upon');
    const [streamed, reset] = [session.stream(kBytes), session.reset()];
    expect(toHex((await streamed.result).bytes)).toBe(toHex((await model.generate('Once upon', kBytes)).bytes));
    await reset;
    expect(session.position).toBe(0);
  });

  test('stream, then save: the output is saved, and restore, then stream, begins there', async () => {
    await using session = model.session();
    const [streamed, saved] = [session.stream(kBytes), session.save()];
    const { bytes } = await streamed.result;
    expect(toHex(await saved)).toBe(await stateOf(bytes));
    await using other = model.session();
    const [restored, onwards] = [other.restore(await saved), other.stream(kBytes)];
    await restored;
    expect(toHex((await onwards.result).bytes)).toBe(toHex((await session.stream(kBytes).result).bytes));
    expect(other.position).toBe(session.position);
  });
});

describe('the position', () => {
  /** The texts that were begun, byte by byte: which beginning is in the session? */
  async function expectHolds(session: Session, text: Uint8Array): Promise<void> {
    expect(session.position).toBeLessThan(text.length);
    expect(toHex(await session.save())).toBe(await stateOf(text.subarray(0, session.position)));
  }

  test.each(['feed', 'score'] as const)('is right after an aborted %s', async (call) => {
    await using session = model.session();
    const text = new Uint8Array(3_000_000).fill(97);
    const controller = new AbortController();
    const running = session[call](text, { signal: controller.signal });
    setTimeout(() => controller.abort(), 20);
    await expect(running).rejects.toMatchObject({ name: 'AbortError' });
    expect(session.position).toBeGreaterThan(0);
    await expectHolds(session, text);
  });

  test('is right after a generation that was aborted, stopped or left', async () => {
    for (const end of ['abort', 'stop', 'leave'] as const) {
      await using session = model.session();
      await session.feed(endless);
      const controller = new AbortController();
      const generation = session.stream({ greedy: true, maxBytes: 1e9, signal: controller.signal });
      const chunks = generation[Symbol.asyncIterator]();
      await chunks.next();
      if (end === 'abort') controller.abort();
      if (end === 'stop') void generation.stop();
      if (end === 'leave') await chunks.return();
      await generation.ended;
      const { position } = session;
      expect(position).toBeGreaterThan(endless.length);
      await session.feed('x');
      expect(session.position).toBe(position + 1);
    }
  });

  test('of a call that was refused is what it was', async () => {
    await using session = model.session();
    await session.feed('abc');
    await expect(session.restore(Uint8Array.of(1, 2, 3))).rejects.toMatchObject({ code: 'bad-state' });
    expect(session.position).toBe(3);
    await expect(session.feed('abc', { signal: AbortSignal.abort() })).rejects.toMatchObject({ name: 'AbortError' });
    expect(session.position).toBe(3);
  });
});

describe('a character', () => {
  const fox = new TextEncoder().encode('🦊');

  /** Writes the greedy continuation of a text one byte at a time: what the pieces' texts come to. */
  async function inPieces(session: Session, bytes: number): Promise<{ text: string; all: number[] }> {
    let [text, all]: [string, number[]] = ['', []];
    for (let i = 0; i < bytes; i++) {
      const piece = await session.stream({ seed: i, maxBytes: 1, temperature: 2, utf8: 'raw' }).result;
      text += piece.text;
      all = [...all, ...piece.bytes];
    }
    return { text, all };
  }

  test('cut by the ends of calls is whole in the text', async () => {
    await using session = model.session();
    await session.feed(fox.subarray(0, 2));
    await session.feed(fox.subarray(2, 3));
    const { text, all } = await inPieces(session, 200);
    const decoder = new TextDecoder('utf-8', { ignoreBOM: true });
    const whole = decoder.decode(Uint8Array.from([...fox.subarray(0, 3), ...all]), { stream: true });
    expect(text).toBe(whole);
  });

  test('that a prompt begins is whole in the text, also in streams', async () => {
    const prompt = fox.subarray(0, 3);
    const generation = model.stream(prompt, { seed: 1, maxBytes: 300, temperature: 2, utf8: 'raw' });
    let text = '';
    for await (const piece of generation.text) text += piece;
    const { bytes, text: ofResult } = await generation.result;
    const decoder = new TextDecoder('utf-8', { ignoreBOM: true });
    expect(text).toBe(decoder.decode(Uint8Array.from([...prompt, ...bytes]), { stream: true }));
    expect(ofResult).toBe(text);
  });

  test('begun before a reset is forgotten', async () => {
    await using session = model.session();
    await session.feed(fox.subarray(0, 3));
    await session.reset();
    const { text, bytes } = await session.stream({ seed: 3, maxBytes: 30 }).result;
    expect(text).toBe(new TextDecoder('utf-8', { ignoreBOM: true }).decode(bytes, { stream: true }));
  });

  test('begun before save is there after restore', async () => {
    await using session = model.session();
    await session.feed('many words before, so that more than a window of them is saved'.repeat(9));
    await session.feed(fox.subarray(0, 3));
    await using other = model.session();
    await other.restore(await session.save());
    const options = { seed: 3, maxBytes: 30, temperature: 2 };
    expect((await other.stream(options).result).text).toBe((await session.stream(options).result).text);
  });
});

describe('the output', () => {
  const isWellFormed = (bytes: Uint8Array): boolean => {
    try {
      new TextDecoder('utf-8', { fatal: true }).decode(bytes, { stream: true });
      return true;
    } catch {
      return false;
    }
  };

  test('is well-formed UTF-8 however wild it is, unless raw bytes are asked for', async () => {
    let raw = 0;
    for (let seed = 0; seed < 30; seed++) {
      const options = { seed, temperature: 2, maxBytes: 60 };
      const valid = await model.generate('Once', options);
      expect(isWellFormed(valid.bytes)).toBe(true);
      expect(valid.text).not.toContain('\uFFFD');
      expect(toHex((await model.generate('Once', { ...options, utf8: 'valid' })).bytes)).toBe(toHex(valid.bytes));
      if (!isWellFormed((await model.generate('Once', { ...options, utf8: 'raw' })).bytes)) raw++;
    }
    expect(raw).toBeGreaterThan(20);
  });

  test('goes on with a character that the text has begun', async () => {
    await using session = model.session();
    await session.feed(new TextEncoder().encode('🦊').subarray(0, 2));
    const { bytes, text } = await session.stream({ seed: 1, maxBytes: 20 }).result;
    expect(bytes[0]).toBeGreaterThanOrEqual(0x80);
    expect(bytes[0]).toBeLessThan(0xc0);
    expect(text).not.toContain('\uFFFD');
  });
});

describe('the distribution of the next token', () => {
  test.each(goldens().filter(([name, { logits }]) => logits && name.startsWith('tiny')))(
    'is the golden one of %s',
    async (_, golden) => {
      await using tiny = await load(modelOf(golden));
      await using session = tiny.session();
      await session.feed(golden.prompt_tokens ? Uint32Array.from(golden.prompt_tokens) : fromHex(golden.prompt));
      const { logits, probabilities } = await session.next();
      expect(Array.from(logits)).toEqual(golden.logits);
      expect(probabilities.reduce((a, b) => a + b, 0)).toBeCloseTo(1, 12);
    },
  );

  test('costs a text what score() says, and leaves text and output as they are', async () => {
    await using session = model.session();
    await session.feed('Once upon');
    const text = new TextEncoder().encode(' a time');
    let bits = 0;
    for (const byte of text) {
      bits -= Math.log2((await session.next()).probabilities[byte] ?? 0);
      await session.feed(Uint8Array.of(byte));
    }
    await using other = model.session();
    await other.feed('Once upon');
    expect(bits).toBeCloseTo((await other.score(text)).bits, 4);
    await other.next();
    expect(other.position).toBe(session.position);
    expect(toHex(await other.save())).toBe(toHex(await session.save()));
    expect(toHex((await other.stream(kBytes).result).bytes)).toBe(
      toHex((await model.generate('Once upon a time', kBytes)).bytes),
    );
  });

  test('is that before the text begins, too, and fails with a code or the reason of its signal', async () => {
    const session = model.session();
    const { logits } = await session.next();
    const { bytes } = await session.stream({ greedy: true, maxBytes: 1, utf8: 'raw' }).result;
    expect(logits.indexOf(Math.max(...logits.filter((_, byte) => byte !== 254 && byte !== 255)))).toBe(bytes[0]);
    await expect(session.next({ signal: AbortSignal.abort('mine') })).rejects.toBe('mine');
    await session.close();
    await expect(session.next()).rejects.toMatchObject({ code: 'closed' });
  });
});
