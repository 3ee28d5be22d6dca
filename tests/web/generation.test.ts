// A generation waits for its reader, shares its output between readers, and ends in exactly one way.
// SPDX-License-Identifier: MIT

import { describe, expect, test } from 'vitest';
import type { JobHandle } from '../../web/src/client.js';
import { deferred } from '../../web/src/deferred.js';
import { Generation, kAhead, type Chunk } from '../../web/src/generation.js';
import type { Finish, Outcome, Written } from '../../web/src/protocol.js';
import { toBytes } from '../../web/src/utf8.js';

interface Script {
  size?: number;
  finish?: Finish;
  prompt?: 'given' | 'pending';
  /** Reports a chunk at each of these bytes. */
  boundariesAt?: string;
}

const kPromptMasks = Uint8Array.of(1, 0, 0, 1);

/** An engine that writes `source` in chunks of `size` bytes, as far as it is allowed to. */
class ScriptedEngine {
  readonly generation: Generation;
  allowed = 0;
  written = 0;
  released = 0;
  stopped = 0;
  readonly prompt = deferred<Outcome>();
  readonly #done = deferred<Outcome>();
  readonly #source: Uint8Array;
  readonly #size: number;
  readonly #finish: Finish;
  readonly #boundariesAt: string | null;
  #onWritten: (written: Written) => void = () => undefined;

  constructor(source: string | Uint8Array, script: Script = {}) {
    const { size = 64, finish = 'max-bytes', prompt = 'given', boundariesAt = null } = script;
    this.#boundariesAt = boundariesAt;
    this.#source = typeof source === 'string' ? toBytes(source) : source;
    this.#size = size;
    this.#finish = finish;
    const boundaries = boundariesAt === null ? null : kPromptMasks;
    if (prompt === 'given') this.prompt.resolve({ kind: 'feed', position: 0, boundaries });
    const ignore = (): void => undefined;
    this.generation = new Generation({
      seed: 7n,
      boundaries: boundariesAt !== null,
      prepare: () => ({ outcome: this.prompt.promise, allow: ignore, stop: ignore }),
      begin: (credit, onWritten) => this.#begin(credit, onWritten),
      release: () => this.released++,
    });
  }

  fail(error: Error): void {
    this.#done.reject(error);
  }

  #begin(credit: number, onWritten: (written: Written) => void): JobHandle {
    this.#onWritten = onWritten;
    this.#write(credit);
    return {
      outcome: this.#done.promise,
      allow: (more) => this.#write(more),
      stop: () => {
        this.stopped++;
        this.#done.resolve({ kind: 'generate', finish: 'stopped', position: this.written });
      },
    };
  }

  #write(credit: number): void {
    this.allowed = credit;
    while (this.written < Math.min(credit, this.#source.length)) {
      const end = Math.min(this.written + this.#size, credit, this.#source.length);
      const bytes = this.#source.slice(this.written, end);
      const marks = this.#boundariesAt;
      const boundaries =
        marks === null ? null : bytes.map((byte) => (marks.includes(String.fromCharCode(byte)) ? 1 : 0));
      this.#onWritten({ bytes, boundaries });
      this.written = end;
    }
    if (this.written < this.#source.length) return;
    this.#done.resolve({ kind: 'generate', finish: this.#finish, position: this.written });
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
    expect(engine.stopped).toBe(1);
    expect(engine.released).toBe(1);
    expect(engine.written).toBeLessThan(toBytes(kStory).length);
  });

  test('ends the work when its stream is cancelled', async () => {
    const engine = new ScriptedEngine(kStory);
    const reader = engine.generation.text.getReader();
    await reader.read();
    await reader.cancel();
    await settled();
    expect(engine.stopped).toBe(1);
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
    expect(engine.released).toBe(1);
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
    expect(engine.released).toBe(1);
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
    const plan = {
      boundaries: false,
      prepare: () => null,
      begin: () => ({ outcome: deferred<Outcome>().promise, allow: () => undefined, stop: () => undefined }),
      release: () => undefined,
    };
    expect(new Generation({ ...plan, seed: 2n ** 64n - 1n }).seed).toBe(2n ** 64n - 1n);
    expect(new Generation({ ...plan, seed: 5n }).seed).toBe(5);
  });
});
