// Data compressed by a model is found again by the same model, wherever that runs, and by no other.
// SPDX-License-Identifier: MIT

import { readFileSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { load, type Model } from '../../web/src/index.js';
import { anyModel, goldens, modelOf, toHex } from './golden.js';

interface Vector {
  readonly model: string;
  readonly data: string;
  readonly compressed: string;
}

const kVectors: Vector[] = JSON.parse(readFileSync(new URL('../data/compressed.json', import.meta.url), 'utf8'));
const fromBase64 = (text: string): Uint8Array => Uint8Array.from(Buffer.from(text, 'base64'));
const encode = (text: string): Uint8Array => new TextEncoder().encode(text);

const kStory = encode('Once upon a time there was a 🦊 that liked to play. '.repeat(20));
const kEveryByte = Uint8Array.from({ length: 600 }, (_, i) => (i * 7) % 256);

let model: Model;

beforeAll(async () => {
  model = await load(anyModel());
});

afterAll(async () => model.close());

/** A stream in pieces of so many bytes. */
function pieces(data: Uint8Array, size: number): ReadableStream<Uint8Array> {
  let at = 0;
  return new ReadableStream({
    pull(controller) {
      if (at >= data.length) return controller.close();
      controller.enqueue(data.slice(at, (at += size)));
    },
  });
}

async function collect(stream: ReadableStream<Uint8Array>): Promise<Uint8Array> {
  return new Uint8Array(await new Response(stream as ReadableStream<Uint8Array<ArrayBuffer>>).arrayBuffer());
}

test.each(kVectors)('the vector of $model, $data.length, comes out and goes back', async (vector) => {
  await using other = await load(modelOf(vector));
  const data = fromBase64(vector.data);
  expect(toHex(await other.compress(data))).toBe(toHex(fromBase64(vector.compressed)));
  expect(toHex(await other.decompress(fromBase64(vector.compressed)))).toBe(toHex(data));
});

test.each(goldens().filter(([name]) => name.endsWith('.json') && /^tiny_|tokens-4m5/.test(name)))(
  'any bytes come back from %s',
  async (_, golden) => {
    await using other = await load(modelOf(golden));
    for (const data of [new Uint8Array(0), Uint8Array.of(255), kEveryByte, kStory]) {
      const compressed = await other.compress(data);
      expect(toHex(await other.decompress(compressed))).toBe(toHex(data));
    }
  },
);

test('a text takes about the bits of its score', async () => {
  await using stories = await load(modelOf({ model: 'models/tinystories-3m5.gguf' }));
  const { bits } = await stories.score(kStory);
  const { length } = await stories.compress(kStory);
  expect(length).toBeGreaterThan(bits / 8);
  expect(length).toBeLessThan((bits / 8) * 1.002 + 26); // a container has about 25 bytes besides the code
});

describe('streams', () => {
  const data = Uint8Array.from({ length: 33_000 }, (_, i) => kStory[(i * 3) % 97] ?? 0);

  test('give the same bytes whatever the pieces, in several blocks, and find them again', async () => {
    const compressed = await model.compress(data);
    expect(toHex(await collect(pieces(data, 9999).pipeThrough(model.compressStream())))).toBe(toHex(compressed));
    for (const size of [1000, compressed.length]) {
      expect(toHex(await collect(pieces(compressed, size).pipeThrough(model.decompressStream())))).toBe(toHex(data));
    }
    const little = await model.compress('ab');
    expect(toHex(await collect(pieces(little, 1).pipeThrough(model.decompressStream())))).toBe(toHex(encode('ab')));
  });

  test('end on both sides with the error of either', async () => {
    const { readable, writable } = model.decompressStream();
    const writer = writable.getWriter();
    const written = writer.write(encode('no container')).catch(() => undefined);
    await expect(readable.getReader().read()).rejects.toMatchObject({ code: 'bad-file' });
    await written;
    await expect(writer.write(encode('more'))).rejects.toMatchObject({ code: 'bad-file' });

    const other = model.compressStream();
    const reading = collect(other.readable);
    await other.writable.abort('mine');
    await expect(reading).rejects.toBe('mine');
  });

  test('whose reader leaves call the rest off, and the engine is free', async () => {
    const { readable, writable } = model.compressStream();
    const reader = readable.getReader();
    const writing = writable.getWriter().write(new Uint8Array(200_000));
    writing.catch(() => undefined); // ends as the stream does
    await reader.read(); // the head
    const waits = reader.read();
    await reader.cancel();
    expect((await waits).done).toBe(true);
    expect((await model.generate('x', { maxBytes: 1, seed: 1 })).bytes.length).toBeLessThan(2);
  });

  test('wait for nobody whose signal was aborted', async () => {
    const controller = new AbortController();
    const { readable } = model.compressStream({ signal: controller.signal });
    const reader = readable.getReader();
    await reader.read(); // the head
    const waits = reader.read();
    controller.abort('mine');
    await expect(waits).rejects.toBe('mine');
    await expect(model.compress(kStory, { signal: controller.signal })).rejects.toBe('mine');
  });
});

describe('what is refused', () => {
  test('data of another model, with both fingerprints', async () => {
    const [, golden] = goldens().find(([name]) => name.startsWith('tiny_hnet')) ?? [];
    if (!golden) throw new Error('expected a second model');
    await using other = await load(modelOf(golden));
    const compressed = await model.compress('abc');
    const { fingerprint } = model.info;
    await expect(other.decompress(compressed)).rejects.toMatchObject({
      code: 'wrong-model',
      message: `expected data compressed by the model ${other.info.fingerprint}, found that of ${fingerprint}: load that model`,
    });
  });

  test('what ends early, at any place, goes on, is damaged, or is no container', async () => {
    const good = await model.compress('Once upon a time');
    for (let size = 0; size < good.length; size++) {
      await expect(model.decompress(good.slice(0, size))).rejects.toMatchObject({ code: 'incomplete' });
    }
    await expect(model.decompress(Uint8Array.of(...good, 0))).rejects.toMatchObject({ code: 'bad-file' });
    await expect(model.decompress(encode('Once upon a time'))).rejects.toMatchObject({ code: 'bad-file' });
    let found = 0;
    for (let at = 12; at < good.length; at++) {
      const damaged = Uint8Array.from(good, (byte, i) => (i === at ? byte ^ 16 : byte));
      const outcome: unknown = await model.decompress(damaged).catch((error: unknown) => error);
      if (outcome instanceof Uint8Array) expect(toHex(outcome)).toBe(toHex(encode('Once upon a time')));
      else expect(outcome).toMatchObject({ code: expect.stringMatching(/^(integrity|incomplete|bad-file)$/) });
      if (!(outcome instanceof Uint8Array)) found++;
    }
    expect(found).toBeGreaterThanOrEqual(good.length - 12 - 1); // the last bits of a code may be any
  });

  test('what is no data, and a closed model', async () => {
    await expect(model.compress(JSON.parse('5'))).rejects.toMatchObject({ code: 'bad-option' });
    await expect(model.decompress(JSON.parse('"abc"'))).rejects.toMatchObject({ code: 'bad-option' });
    await expect(model.compress('x', JSON.parse('{"level": 9}'))).rejects.toMatchObject({ code: 'bad-option' });
    const closed = await load(anyModel());
    await closed.close();
    await expect(closed.compress('x')).rejects.toMatchObject({ code: 'closed' });
    expect(() => closed.decompressStream()).toThrow(expect.objectContaining({ code: 'closed' }));
  });
});
