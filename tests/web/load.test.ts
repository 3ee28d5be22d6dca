// The package as a program uses it: load, stream, abort, share one model, close. Here on the main thread, since Node
// has no web workers; tests/browsers runs the same in workers.
// SPDX-License-Identifier: MIT

import { createHash } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { TernError, load, probe, type LoadProgress, type Model } from '../../web/src/index.js';
import { findEndlessPrompt } from './endless.js';
import { hgrnbit, whole } from './gguf.js';
import { anyModel, fromHex, goldens, modelOf, toHex } from './golden.js';

const kFile = anyModel();

const kEndless = { greedy: true, maxBytes: 1_000_000_000 };

let model: Model;
let endlessPrompt: Uint8Array; // with kEndless

beforeAll(async () => {
  model = await load(kFile);
  endlessPrompt = await findEndlessPrompt(model);
});

afterAll(async () => model.close());

describe('probe', () => {
  test('says which kernels are exact here, how fast they are and which one is in use', async () => {
    const { kernels, tables, runtime } = await probe();
    expect(runtime).toMatchObject({ thread: 'main', variant: 'simd', kernel: 'simd128' });
    expect(kernels.map(({ name, exact, inUse }) => [name, exact, inUse])).toEqual([
      ['scalar', true, false],
      ['simd128', true, true],
    ]);
    expect(kernels.every(({ gmacPerS }) => (gmacPerS ?? 0) > 0)).toBe(true);
    expect(tables.gmacPerS).toBeGreaterThan(0);
    expect(tables.fromBytes ?? 16).toBeGreaterThan(0);
  });

  test('fails where a worker was demanded and there are none', async () => {
    await expect(probe({ runtime: 'worker' })).rejects.toMatchObject({ code: 'unsupported' });
  });
});

describe('load', () => {
  test('falls back to this thread where there are no workers, and says why', () => {
    expect(model.info.runtime).toMatchObject({ thread: 'main', variant: 'simd', kernel: 'simd128' });
    expect(model.info.runtime.threadReason).toMatch(/Worker is not defined/);
  });

  test('without workers fails where a worker was demanded', async () => {
    await expect(load(kFile, { runtime: 'worker' })).rejects.toMatchObject({ code: 'unsupported' });
  });

  test('describes the model', () => {
    expect(model.info).toMatchObject({ architecture: 'hgrnbit', fileBytes: kFile.length, integrity: 'not asked for' });
    expect(model.info.parameters).toBeGreaterThan(10_000);
    expect(model.info.packedBytes).toBeGreaterThan(1000);
    expect(model.info.stateBytes).toBeGreaterThan(0);
    expect(model.info.metadata['general.architecture']).toBe('hgrnbit');
  });

  test('says which numbers of a file are so small that the model becomes worse by rounding them', async () => {
    const beginning = hgrnbit({ hidden: 256, intermediate: 256, layers: 1 });
    const embedding = (size: number): Float32Array<ArrayBuffer> => new Float32Array(256 * 256).fill(size);
    for (const [size, warnings] of [
      [2 ** -10, []],
      [1e-5, [expect.stringMatching(/^tensor "token_embd.weight": expected numbers of 2\^-10 or more/)]],
    ] as const) {
      await using loaded = await load(whole(beginning, embedding(size)));
      expect(loaded.info.warnings).toEqual(warnings);
    }
  });

  test('reports progress up to the size of the file, which the file itself tells', async () => {
    const seen: LoadProgress[] = [];
    const pieces = Array.from({ length: Math.ceil(kFile.length / 5000) }, (_, i) =>
      kFile.slice(5000 * i, 5000 * (i + 1)),
    );
    const stream = new ReadableStream<Uint8Array>({
      start(controller) {
        for (const piece of pieces) controller.enqueue(piece);
        controller.close();
      },
    });
    await (await load(stream, { onProgress: (progress) => seen.push(progress) })).close();
    expect(seen[0]).toMatchObject({ phase: 'source', loaded: 0, received: 0, total: null });
    expect(seen.at(-1)).toMatchObject({ loaded: kFile.length, received: kFile.length, total: kFile.length });
    expect(seen.length).toBe(pieces.length + 1);
  });

  test('compares the checksum it was given', async () => {
    const integrity = createHash('sha256').update(kFile).digest('hex');
    const verified = await load(kFile, { integrity });
    expect(verified.info.integrity).toBe('verified');
    await verified.close();
    await expect(load(kFile, { integrity: '0'.repeat(64) })).rejects.toMatchObject({ code: 'integrity' });
    await expect(load(kFile, { integrity: 'abc' })).rejects.toMatchObject({ code: 'bad-option' });
  });

  test('of a broken file fails with what was found, and the next load works', async () => {
    const damaged = kFile.slice();
    damaged.fill(0xff, 24, 64);
    await expect(load(damaged)).rejects.toMatchObject({ name: 'TernError', code: 'bad-file' });
    await expect(load(kFile.subarray(0, 3000))).rejects.toMatchObject({ code: 'bad-file' });
    await expect(load(new Blob(['<!doctype html>']))).rejects.toMatchObject({ code: 'bad-file' });
    await (await load(kFile)).close();
  });

  test('that is aborted ends with the reason of the signal', async () => {
    const controller = new AbortController();
    const endless = new ReadableStream<Uint8Array>({ pull: () => new Promise(() => undefined) });
    const waiting = (): void => void setTimeout(() => controller.abort(), 10); // when only the stream is left to wait for
    const loading = load(endless, { signal: controller.signal, onProgress: waiting });
    await expect(loading).rejects.toMatchObject({ name: 'AbortError' });
    await expect(load(kFile, { signal: AbortSignal.abort(new Error('never mind')) })).rejects.toThrow('never mind');
  });

  test('with the wasm missing is an error that says where it looked', async () => {
    await expect(load(kFile, { assets: { wasm: 'file:///nowhere' } })).rejects.toMatchObject({
      code: 'bad-assets',
      message: expect.stringContaining('file:///nowhere/tern-simd.wasm'),
    });
  });

  test('computes with one thread where there can be no more, and says why if more were asked for', async () => {
    expect(model.info.runtime.threads).toEqual({ count: 1, reason: '' });
    for (const threads of [2, 'auto'] as const) {
      await using other = await load(kFile, { threads });
      expect(other.info.runtime.variant).toBe('simd');
      expect(other.info.runtime.threads).toEqual({ count: 1, reason: 'there are no workers here' });
    }
  });

  test.each(['0', '-1', '1.5', '65', '"2"', '"all"', 'null', '{}'])('refuses threads: %s', async (value) => {
    await expect(load(kFile, JSON.parse(`{"threads": ${value}}`))).rejects.toMatchObject({
      code: 'bad-option',
      message: expect.stringMatching(/^threads must be 'auto' or a whole number from 1 to 64, found /),
    });
  });

  test('refuses a runtime that does not exist', async () => {
    await expect(load(kFile, JSON.parse('{"runtime": "gpu"}'))).rejects.toMatchObject({ code: 'bad-option' });
  });
});

describe('a model', () => {
  test.each(goldens())('gives the bytes of %s through the public calls', async (_, golden) => {
    await using loaded = await load(modelOf(golden));
    expect(loaded.info.warnings).toEqual([]);
    for (const { options, bytes, finish } of golden.generations) {
      const result = await loaded.generate(fromHex(golden.prompt), options);
      expect({ bytes: toHex(result.bytes), finish: result.finish }).toEqual({
        bytes,
        finish: finish.replace('max_bytes', golden.prompt_tokens ? 'max-tokens' : 'max-bytes').replaceAll('_', '-'),
      });
    }
    const { text, tokens } = golden.score; // of pieces the tokens: no text has the end of a document in it
    const score = await loaded.score(tokens ? Uint32Array.from(tokens) : fromHex(text));
    expect(score.bits).toBe(Number(golden.score.bits_q32) / 2 ** 32);
  });

  test.each(goldens())('of %s goes on from a saved conversation', async (_, golden) => {
    await using loaded = await load(modelOf(golden));
    await using session = loaded.session();
    await session.feed(fromHex(golden.prompt));
    await using other = loaded.session();
    await other.restore(await session.save());
    const options = { seed: 7, maxTokens: 50 };
    const [a, b] = await Promise.all([session.stream(options).result, other.stream(options).result]);
    expect([toHex(b.bytes), b.from]).toEqual([toHex(a.bytes), a.from]);
    expect(toHex(await other.save())).toBe(toHex(await session.save()));
  });

  test('repeats itself for a seed, and only for the seed', async () => {
    const options = { seed: 42, maxBytes: 100 };
    const [a, b, c] = await Promise.all([
      model.generate('The', options),
      model.generate('The', options),
      model.generate('The', { ...options, seed: 43 }),
    ]);
    expect(toHex(a.bytes)).toBe(toHex(b.bytes));
    expect(toHex(a.bytes)).not.toBe(toHex(c.bytes));
  });

  test('reports the seed it chose, which then gives the same bytes', async () => {
    const first = await model.generate('The', { maxBytes: 60 });
    const again = await model.generate('The', { maxBytes: 60, seed: first.seed });
    expect(toHex(again.bytes)).toBe(toHex(first.bytes));
  });

  test('takes an empty prompt, every byte value, and a prompt of a megabyte', async () => {
    const everyByte = Uint8Array.from({ length: 256 }, (_, i) => i);
    expect((await model.generate('', { maxBytes: 20 })).bytes.length).toBeGreaterThan(0);
    expect((await model.generate(everyByte, { maxBytes: 20 })).bytes.length).toBeGreaterThan(0);
    const megabyte = new Uint8Array(1 << 20).fill(97);
    expect((await model.generate(megabyte, { maxBytes: 4 })).bytes.length).toBeGreaterThan(0);
  });

  test('serves many generations at once as it serves each alone', async () => {
    const prompts = Array.from({ length: 8 }, (_, i) => 'x'.repeat(i * 50 + 1));
    const alone: string[] = [];
    for (const [i, prompt] of prompts.entries()) {
      alone.push(toHex((await model.generate(prompt, { seed: i, maxBytes: 150 })).bytes));
    }
    const together = await Promise.all(prompts.map((prompt, i) => model.generate(prompt, { seed: i, maxBytes: 150 })));
    expect(together.map(({ bytes }) => toHex(bytes))).toEqual(alone);
  });

  test('shares its time fairly: a short generation does not wait for a long one', async () => {
    const long = model.stream(endlessPrompt, kEndless);
    const longEnd = long.result.then(() => 'long');
    const shortEnd = model.generate('b', { maxBytes: 30, seed: 1 }).then(() => 'short');
    expect(await Promise.race([longEnd, shortEnd])).toBe('short');
    await long.stop();
  });

  test('stops when the signal says so, while writing and while reading the prompt', async () => {
    for (const prompt of [endlessPrompt, 'x'.repeat(2_000_000)]) {
      const controller = new AbortController();
      const running = model.generate(prompt, { ...kEndless, signal: controller.signal });
      setTimeout(() => controller.abort(), 30);
      await expect(running).rejects.toMatchObject({ name: 'AbortError' });
    }
    const after = await model.generate('The', { maxBytes: 10, seed: 1 });
    expect(after.bytes.length).toBeGreaterThan(0);
  });

  test('does nothing for a signal that is aborted already', async () => {
    const signal = AbortSignal.abort();
    await expect(model.generate('x', { signal })).rejects.toMatchObject({ name: 'AbortError' });
    await expect(model.score('x', { signal })).rejects.toMatchObject({ name: 'AbortError' });
  });

  test('stays usable after a wrong option, which is refused at once', async () => {
    expect(() => model.stream('x', { temperature: -1 })).toThrow(TernError);
    await expect(model.generate('x', { topK: 0 })).rejects.toMatchObject({ code: 'bad-option' });
    await expect(model.generate('x', JSON.parse('{"maxBytes": "x"}'))).rejects.toMatchObject({ code: 'bad-option' });
    expect((await model.generate('x', { maxBytes: 5, seed: 1 })).bytes.length).toBeGreaterThan(0);
  });

  test('scores a text the same in one piece and as a session', async () => {
    const whole = await model.score('Once upon a time');
    await using session = model.session();
    const first = await session.score('Once upon');
    const second = await session.score(' a time');
    expect(first.bits + second.bits).toBeCloseTo(whole.bits, 6);
    expect(whole.bitsPerByte).toBeCloseTo(whole.bits / 16, 10);
    expect((await model.score('')).bits).toBe(0);
  });

  test('that is closed refuses work, ends what runs, and may be closed again', async () => {
    const closing = await load(kFile);
    const running = closing.generate(endlessPrompt, kEndless);
    const session = closing.session();
    await closing.close();
    await closing.close();
    await expect(running).rejects.toMatchObject({ code: 'closed' });
    expect(() => closing.stream('x')).toThrow(expect.objectContaining({ code: 'closed' }));
    await expect(closing.score('x')).rejects.toMatchObject({ code: 'closed' });
    await expect(session.feed('x')).rejects.toMatchObject({ code: 'closed' });
  });
});

describe('boundaries', () => {
  const hierarchical = goldens().filter(([, golden]) => golden.generations.some(({ boundaries }) => boundaries));

  test('are refused where a model has none', async () => {
    expect(model.info.stages).toBe(0);
    const asked = { trace: { boundaries: true } };
    expect(() => model.stream('x', asked)).toThrow(expect.objectContaining({ code: 'bad-option' }));
    await using session = model.session();
    expect(() => session.stream(asked)).toThrow(expect.objectContaining({ code: 'bad-option' }));
    await expect(session.feed('x', asked)).rejects.toMatchObject({ code: 'bad-option' });
    expect(await session.feed('x')).toEqual({ boundaries: null });
    const { boundaries, promptBoundaries } = await model.generate('x', { maxBytes: 5, trace: {} });
    expect([boundaries, promptBoundaries]).toEqual([null, null]);
  });

  test('are tested with hierarchical models', () => {
    expect(hierarchical.length).toBeGreaterThan(0);
  });

  test.each(hierarchical)('come with the bytes of %s, chunk by chunk, also in a session', async (_, golden) => {
    await using chunked = await load(modelOf(golden));
    expect(chunked.info.stages).toBeGreaterThan(0);
    const ofPrompt = golden.boundaries?.slice(2) ?? ''; // without that of BOS
    for (const { options, bytes, boundaries } of golden.generations) {
      const masks: number[] = [];
      const traced = { ...options, trace: { boundaries: true } };
      const generation = chunked.stream(fromHex(golden.prompt), traced);
      for await (const chunk of generation) {
        expect(chunk.boundaries?.length).toBe(chunk.bytes.length);
        masks.push(...(chunk.boundaries ?? []));
      }
      expect(toHex(Uint8Array.from(masks))).toBe(boundaries);
      expect(toHex((await generation.result).bytes)).toBe(bytes);
      expect(toHex((await generation.promptBoundaries) ?? new Uint8Array(0))).toBe(ofPrompt);

      await using session = chunked.session();
      const fed = await session.feed(fromHex(golden.prompt), { trace: { boundaries: true } });
      expect(toHex(fed.boundaries ?? new Uint8Array(0))).toBe(ofPrompt);
      expect(await session.stream(traced).result).toMatchObject({
        boundaries: Uint8Array.from(masks),
        promptBoundaries: null,
      });
    }
  });
});

describe('a session', () => {
  test('continues where it is, like one long prompt', async () => {
    const whole = await model.generate('Once upon a time', { seed: 5, maxBytes: 60 });
    await using session = model.session();
    await session.feed('Once upon');
    await session.feed(' a time');
    expect(session.position).toBe(16);
    expect(toHex((await session.stream({ seed: 5, maxBytes: 60 }).result).bytes)).toBe(toHex(whole.bytes));
    expect(session.position).toBe(16 + whole.bytes.length);
  });

  test('that is stopped holds exactly the bytes of the result', async () => {
    await using session = model.session();
    await session.feed(endlessPrompt);
    const generation = session.stream(kEndless);
    for await (const { bytes } of generation) if (bytes.length > 0) break;
    const { bytes, finish } = await generation.stop();
    expect(finish).toBe('stopped');
    await using other = model.session();
    await other.feed(endlessPrompt);
    await other.feed(bytes);
    expect(toHex(await other.save())).toBe(toHex(await session.save()));
  });

  test('can be saved, restored and reset', async () => {
    await using a = model.session();
    await a.feed('Once upon a time');
    await using b = model.session();
    await b.restore(await a.save());
    expect(b.position).toBe(16);
    await b.reset();
    expect(b.position).toBe(0);
    await expect(b.restore(Uint8Array.of(1, 2, 3))).rejects.toMatchObject({ code: 'bad-state' });
  });
});
