// A generation waits for its reader, shares its output between readers, and ends in exactly one way.
// SPDX-License-Identifier: MIT

import { describe, expect, test } from 'vitest';
import { Generation, kAhead, kWhole, type Chunk, type Origin } from '../../web/src/api/generation.js';
import { kBytes } from '../../web/src/codec.js';
import { deferred } from '../../web/src/deferred.js';
import type { Finish } from '../../web/src/engine/types.js';
import type { AnswerOf, Part } from '../../web/src/host/protocol.js';
import type { Request } from '../../web/src/link/connection.js';
import { toOrder, type Order } from '../../web/src/api/options.js';

interface Script {
  size?: number;
  finish?: Finish;
  prompt?: 'given' | 'pending';
  /** Reports a chunk at each of these bytes. */
  boundariesAt?: string;
  /** The last bytes before the output. */
  before?: Uint32Array<ArrayBuffer>;
}

function originOf(order: Order): Origin {
  return { prompt: null, options: {}, order, peek: () => Promise.reject(new Error('there is no session')) };
}

const toBytes = (text: string): Uint8Array => new TextEncoder().encode(text);
const kPromptMasks = Uint8Array.of(1, 0, 0, 1);

/** An engine that writes `source` in chunks of `size` bytes, as far as it is allowed to. */
class ScriptedEngine {
  readonly generation: Generation;
  written = 0;
  stopped = 0;
  rested = 0;
  readonly #answer = deferred<AnswerOf<'generate'>>();
  readonly #source: Uint8Array;
  readonly #script: Script;
  #emit: (part: Part) => void = () => undefined;

  constructor(source: string | Uint8Array, script: Script = {}) {
    this.#script = script;
    this.#source = typeof source === 'string' ? toBytes(source) : source;
    const traced = script.boundariesAt !== undefined;
    const order = { ...toOrder({ seed: 7 }, { stages: 1, codec: kBytes, turnEnd: null }), traced };
    this.generation = new Generation(kBytes, (credit, onPart) => this.#begin(credit, onPart), originOf(order));
  }

  fail(error: Error): void {
    this.#answer.reject(error);
  }

  #begin(credit: number, emit: (part: Part) => void): Request<'generate'> {
    this.#emit = emit;
    void this.#start(credit);
    return {
      answer: this.#answer.promise,
      allow: (more) => this.#write(more),
      rest: () => this.rested++,
      cancel: () => {
        this.stopped++;
        this.#answer.resolve({ kind: 'generate', finish: 'stopped' });
      },
    };
  }

  /** As a host does: never while it is being asked. */
  async #start(credit: number): Promise<void> {
    await Promise.resolve();
    if (this.#script.prompt === 'pending') return;
    const { boundariesAt, before = new Uint32Array(0) } = this.#script;
    this.#emit({ kind: 'prompt', before, boundaries: boundariesAt === undefined ? null : kPromptMasks });
    this.#write(credit);
  }

  #write(credit: number): void {
    const { size = 64, finish = 'max-bytes', boundariesAt: marks } = this.#script;
    while (this.written < Math.min(credit, this.#source.length)) {
      const end = Math.min(this.written + size, credit, this.#source.length);
      const bytes = new Uint8Array(this.#source.subarray(this.written, end));
      const boundaries =
        marks === undefined ? null : bytes.map((byte) => (marks.includes(String.fromCharCode(byte)) ? 1 : 0));
      this.written = end;
      this.#emit({ kind: 'written', written: { tokens: Uint32Array.from(bytes), boundaries } });
    }
    if (this.written === this.#source.length) this.#answer.resolve({ kind: 'generate', finish });
  }
}

async function readAll(source: AsyncIterable<Chunk>): Promise<string> {
  let text = '';
  for await (const chunk of source) text += chunk.text;
  return text;
}

const kStory = 'Once upon a time there was a fox 🦊. '.repeat(120);
const settled = (): Promise<void> => new Promise((resolve) => setTimeout(resolve, 0));

describe('a generation', () => {
  test('that nobody reads stops after the allowance', async () => {
    const engine = new ScriptedEngine(kStory);
    await settled();
    expect(engine.written).toBe(kAhead);
  });

  test('is never further ahead of its reader than the allowance', async () => {
    const engine = new ScriptedEngine(kStory, { size: 100 });
    let read = 0;
    for await (const { bytes } of engine.generation) {
      read += bytes.length;
      await settled();
      expect(engine.written).toBeLessThanOrEqual(read + kAhead);
    }
    expect(read).toBe(toBytes(kStory).length);
  });

  test('whose result alone is awaited runs to the end', async () => {
    const { generation } = new ScriptedEngine(kStory);
    const result = await generation.result;
    expect(result.text).toBe(kStory);
    expect(result.bytes).toEqual(toBytes(kStory));
    expect(result).toMatchObject({ finish: 'max-bytes', seed: 7 });
  });

  test('gives every reader the whole text, late ones too', async () => {
    const { generation } = new ScriptedEngine(kStory, { size: 7 });
    const [a, b] = await Promise.all([readAll(generation), readAll(generation)]);
    expect(a).toBe(kStory);
    expect(b).toBe(kStory);
    expect(await readAll(generation)).toBe(kStory);
  });

  test('as a stream of text never splits a character', async () => {
    const { generation } = new ScriptedEngine(kStory, { size: 1 });
    const pieces: string[] = [];
    for await (const piece of generation.text) pieces.push(piece);
    expect(pieces.join('')).toBe(kStory);
    expect(pieces.every((piece) => piece !== '' && !piece.includes('\uFFFD'))).toBe(true);
  });

  test('as a stream of bytes is what the model wrote, malformed or not', async () => {
    const raw = Uint8Array.from({ length: 1000 }, (_, i) => i & 0xff);
    const { generation } = new ScriptedEngine(raw, { size: 33 });
    const bytes: number[] = [];
    for await (const piece of generation.bytes) bytes.push(...piece);
    expect(Uint8Array.from(bytes)).toEqual(raw);
  });

  test('ends the work when its last reader leaves', async () => {
    const engine = new ScriptedEngine(kStory);
    for await (const chunk of engine.generation) if (chunk.bytes.length > 0) break;
    await settled();
    expect(engine.stopped).toBeGreaterThan(0);
    expect(engine.written).toBeLessThan(toBytes(kStory).length);
  });

  test('ends the work when its stream is cancelled', async () => {
    const engine = new ScriptedEngine(kStory);
    const reader = engine.generation.text.getReader();
    await reader.read();
    await reader.cancel();
    await settled();
    expect(engine.stopped).toBeGreaterThan(0);
  });

  test('that is stopped keeps what was written', async () => {
    const engine = new ScriptedEngine('fox 🦊🦊'.repeat(200), { size: 10 });
    await settled();
    const result = await engine.generation.stop();
    expect(result.finish).toBe('stopped');
    expect(result.bytes.length).toBe(kAhead);
    expect(result.text).not.toContain('\uFFFD'); // cut inside a character, and nothing is shown for it
  });

  test('that is stopped while the prompt is read has an empty result', async () => {
    const engine = new ScriptedEngine(kStory, { prompt: 'pending' });
    const result = await engine.generation.stop();
    expect(result).toMatchObject({ finish: 'stopped', text: '' });
    expect(engine.written).toBe(0);
  });

  test('that fails tells every reader and the result, after what was written', async () => {
    const engine = new ScriptedEngine(kStory);
    let text = '';
    const reading = (async () => {
      for await (const chunk of engine.generation) {
        text += chunk.text;
        if (text.length > 300) engine.fail(new Error('lost'));
      }
    })();
    await expect(reading).rejects.toThrow('lost');
    await expect(engine.generation.result).rejects.toThrow('lost');
    await expect(readAll(engine.generation)).rejects.toThrow('lost');
    expect(kStory.startsWith(text)).toBe(true);
  });

  test('that ends by itself inside a character shows it as malformed', async () => {
    const cut = toBytes('fox 🦊').subarray(0, -2);
    const { generation } = new ScriptedEngine(cut, { finish: 'end-of-text' });
    expect((await generation.result).text).toBe('fox \uFFFD');
  });

  test('carries the boundaries beside the bytes, in every chunk and in the result', async () => {
    const { generation } = new ScriptedEngine('fox 🦊 and fox', { size: 5, boundariesAt: ' ' });
    const masks: number[] = [];
    for await (const { bytes, boundaries } of generation) {
      expect(boundaries?.length).toBe(bytes.length);
      masks.push(...(boundaries ?? []));
    }
    const { bytes, boundaries } = await generation.result;
    expect(boundaries).toEqual(Uint8Array.from(masks));
    expect(await generation.promptBoundaries).toEqual(kPromptMasks);
    expect((await generation.result).promptBoundaries).toEqual(kPromptMasks);
    expect(masks).toEqual(Array.from(bytes, (byte) => (byte === 32 ? 1 : 0)));
  });

  test('has no boundaries unless they were asked for', async () => {
    const { generation } = new ScriptedEngine('fox');
    for await (const chunk of generation) expect(chunk.boundaries).toBeNull();
    expect((await generation.result).boundaries).toBeNull();
    expect(await generation.promptBoundaries).toBeNull();
  });

  test('has boundaries also where nothing was written, and for the end of a text that breaks off', async () => {
    const nothing = new ScriptedEngine('fox', { prompt: 'pending', boundariesAt: ' ' });
    const stopped = await nothing.generation.stop();
    expect(stopped).toMatchObject({ boundaries: new Uint8Array(0), promptBoundaries: null });
    expect(await nothing.generation.promptBoundaries).toBeNull();
    const cut = toBytes('fox 🦊').subarray(0, -2);
    const { generation } = new ScriptedEngine(cut, { finish: 'end-of-text', boundariesAt: ' ' });
    let last: Chunk | null = null;
    for await (const chunk of generation) last = chunk;
    expect(last).toMatchObject({ text: '\uFFFD', boundaries: new Uint8Array(0) });
  });

  test('reports seeds above 2^53 exactly', () => {
    const of = (seed: bigint): Generation =>
      new Generation(
        kBytes,
        () => ({
          answer: new Promise(() => undefined),
          allow: () => undefined,
          rest: () => undefined,
          cancel: () => undefined,
        }),
        originOf({ ...toOrder({ seed }, { stages: 0, codec: kBytes, turnEnd: null }), traced: false }),
      );
    expect(of(2n ** 64n - 1n).seed).toBe(2n ** 64n - 1n);
    expect(of(5n).seed).toBe(5);
  });

  test.each(['text', 'bytes'] as const)(
    'ends the work when its %s are cancelled before the first read',
    async (kind) => {
      const engine = new ScriptedEngine(kStory);
      await engine.generation[kind].cancel();
      expect(engine.stopped).toBe(1);
      expect((await engine.generation.result).finish).toBe('stopped');
    },
  );

  test('ends the work when its only reader is returned before the first look', async () => {
    const engine = new ScriptedEngine(kStory);
    const reader = engine.generation[Symbol.asyncIterator]();
    expect(await reader.return()).toEqual({ value: undefined, done: true });
    expect(engine.stopped).toBe(1);
    expect(await reader.next()).toEqual({ value: undefined, done: true });
  });

  test('has a result for whoever has read a part of it and reads no more', async () => {
    const { generation } = new ScriptedEngine(kStory);
    const reader = generation.text.getReader();
    const first = (await reader.read()).value;
    const result = await generation.result;
    expect(result).toMatchObject({ text: kStory, from: 0, finish: 'max-bytes' });
    expect(kStory.startsWith(first ?? '?')).toBe(true);
    expect(await readAll(generation)).toBe(kStory);
  });

  test('goes on without its readers when somebody awaits the result', async () => {
    const { generation } = new ScriptedEngine(kStory);
    const result = generation.result;
    for await (const chunk of generation) if (chunk.text !== '') break;
    expect((await result).text).toBe(kStory);
  });

  test('begins with the whole character that the text before it had begun', async () => {
    const fox = toBytes('🦊 and fox');
    const before = Uint32Array.from(fox.subarray(0, 3));
    const { generation } = new ScriptedEngine(fox.subarray(3), { size: 1, before });
    expect(await readAll(generation)).toBe('🦊 and fox');
    const result = await generation.result;
    expect(result.text).toBe('🦊 and fox');
    expect(result.bytes).toEqual(fox.slice(3));
  });

  test('that waits for its reader keeps no program alive', async () => {
    const engine = new ScriptedEngine(kStory);
    await settled();
    expect(engine.rested).toBe(1);
  });

  describe('of many megabytes', () => {
    const kMegabytes = 8;
    const story = Uint8Array.from({ length: kMegabytes * kWhole + 1 }, (_, i) => [0xc3, 0xa9][i % 2] ?? 0); // é
    story[story.length - 1] = 0x2e;

    test('keeps nothing of what was read, and its result is the rest', async () => {
      const engine = new ScriptedEngine(story, { size: 1001, boundariesAt: '.' });
      const { generation } = engine;
      let [read, text, most] = [0, 0, 0];
      for await (const chunk of generation) {
        read += chunk.bytes.length;
        text += chunk.text.length;
        expect(chunk.boundaries?.length).toBe(chunk.bytes.length);
        most = Math.max(most, generation.keptTokens);
      }
      expect([read, text]).toEqual([story.length, Math.floor(story.length / 2) + 1]);
      expect(most).toBeLessThan(2.5 * kWhole);
      const result = await generation.result;
      expect(result.from).toBeGreaterThan((kMegabytes - 2) * kWhole);
      expect(result.from + result.bytes.length).toBe(story.length);
      expect(result.boundaries?.length).toBe(result.bytes.length);
      expect(result.text).not.toContain('\uFFFD');
      expect(() => generation[Symbol.asyncIterator]()).toThrow(expect.objectContaining({ code: 'bad-state' }));
    });

    test('is kept for a result that was asked for', async () => {
      const { generation } = new ScriptedEngine(story, { size: 4001 });
      const result = generation.result;
      let read = 0;
      for await (const { bytes } of generation) read += bytes.length;
      expect(read).toBe(story.length);
      expect((await result).bytes.length).toBe(story.length);
      expect((await result).from).toBe(0);
    });
  });
});
