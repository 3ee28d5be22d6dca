// A text in the making: pulled by whoever reads it, so the engine pauses when nobody does.
// SPDX-License-Identifier: MIT
//
// What was produced is kept until the end, since the result contains it; every reader has its own place in it. The
// engine may run ahead of the foremost reader by kAhead bytes. Where only the result is awaited it runs freely.

import type { JobHandle } from './client.js';
import { deferred } from './deferred.js';
import type { Finish, Written } from './protocol.js';
import { Utf8Carry } from './utf8.js';

/** A piece of the output: the bytes, and the characters they completed (none, when they end inside one). */
export interface Chunk {
  readonly text: string;
  readonly bytes: Uint8Array<ArrayBuffer>;
  /** With `trace.boundaries`: a mask for each of the bytes, bit s set where a chunk of stage s begins. Else null. */
  readonly boundaries: Uint8Array<ArrayBuffer> | null;
}

export interface Timings {
  /** Reading the prompt. */
  readonly promptMs: number;
  /** From the call to the first byte; 0 when there was none. */
  readonly firstByteMs: number;
  /** From the call to the end, pauses included. */
  readonly totalMs: number;
  /** Output after the first byte, pauses included; 0 when there was too little to measure. */
  readonly bytesPerSecond: number;
}

export interface GenerateResult {
  readonly text: string;
  readonly bytes: Uint8Array<ArrayBuffer>;
  /** As in a chunk, for all bytes. */
  readonly boundaries: Uint8Array<ArrayBuffer> | null;
  /** As in a chunk, for the bytes of the prompt; null also where there was none, or it was not read to its end. */
  readonly promptBoundaries: Uint8Array<ArrayBuffer> | null;
  readonly finish: Finish;
  /** The seed that was used: with the same prompt and options it gives the same bytes again. */
  readonly seed: number | bigint;
  readonly timings: Timings;
}

/** What a generation needs from its surroundings. */
export interface Plan {
  readonly seed: bigint;
  /** Boundaries come with the bytes. */
  readonly boundaries: boolean;
  /** Feeds the prompt, if there is one. */
  prepare(): JobHandle | null;
  /** Begins the output. */
  begin(credit: number, onWritten: (written: Written) => void): JobHandle;
  /** Called once, whatever happened. */
  release(): void;
}

export const kAhead = 512;

export class Generation implements AsyncIterable<Chunk>, AsyncDisposable {
  readonly seed: number | bigint;
  readonly #plan: Plan;
  readonly #chunks: Chunk[] = [];
  readonly #utf8 = new Utf8Carry();
  readonly #started = performance.now();
  readonly #done = deferred<GenerateResult>();
  #outcome: 'running' | 'ended' | 'failed' = 'running';
  #error: unknown = null;
  #length = 0; // bytes so far
  #credit = kAhead;
  #readers = 0;
  #stopping = false;
  readonly #stopped = deferred<null>();
  #job: JobHandle | null = null;
  readonly #promptMasks = deferred<Uint8Array<ArrayBuffer> | null>();
  #promptMs = 0;
  #firstByteMs = 0;
  #news = deferred<null>(); // settled and replaced whenever a chunk arrives or the generation ends

  constructor(plan: Plan) {
    this.#plan = plan;
    this.seed = plan.seed <= BigInt(Number.MAX_SAFE_INTEGER) ? Number(plan.seed) : plan.seed;
    // Whoever asks for them gets the error; nobody has to.
    this.#done.promise.catch(() => undefined);
    this.#promptMasks.promise.catch(() => undefined);
    void this.#run();
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<Chunk, void, undefined> {
    this.#readers++;
    try {
      let place = 0;
      for (let i = 0; ; i++) {
        this.#allow(place + kAhead);
        const chunk = await this.#at(i);
        if (!chunk) return;
        place += chunk.bytes.length;
        yield chunk;
      }
    } finally {
      this.#readers--;
      if (this.#readers === 0 && this.#outcome === 'running') void this.stop();
    }
  }

  /** The output as text; a character always arrives whole. */
  get text(): ReadableStream<string> {
    return this.#stream((chunk) => (chunk.text === '' ? null : chunk.text));
  }

  /** The output as bytes, exactly as the model wrote them. */
  get bytes(): ReadableStream<Uint8Array<ArrayBuffer>> {
    return this.#stream((chunk) => (chunk.bytes.length === 0 ? null : chunk.bytes.slice()));
  }

  /** `promptBoundaries` of the result, as soon as the prompt was read: before the first byte of the output. */
  get promptBoundaries(): Promise<Uint8Array<ArrayBuffer> | null> {
    return this.#promptMasks.promise;
  }

  /** The whole output. With a reader around, the reader sets the speed; without one the engine runs to the end. */
  get result(): Promise<GenerateResult> {
    if (this.#readers === 0) this.#allow(Number.MAX_SAFE_INTEGER);
    return this.#done.promise;
  }

  /** Ends the generation early and returns what there is. */
  stop(): Promise<GenerateResult> {
    this.#stopping = true;
    this.#stopped.resolve(null);
    this.#job?.stop();
    return this.#done.promise;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop().catch(() => undefined);
  }

  async #run(): Promise<void> {
    try {
      const masks = await this.#readPrompt();
      this.#promptMasks.resolve(masks);
      this.#end(this.#stopping ? 'stopped' : await this.#output(), masks);
    } catch (error) {
      this.#outcome = 'failed';
      this.#error = error;
      this.#promptMasks.reject(error);
      this.#done.reject(error);
    } finally {
      this.#plan.release();
      this.#announce();
    }
  }

  /** Answers the prompt's boundary masks; the generation may have been stopped meanwhile. */
  async #readPrompt(): Promise<Uint8Array<ArrayBuffer> | null> {
    const outcome = await Promise.race([this.#plan.prepare()?.outcome, this.#stopped.promise]);
    this.#promptMs = performance.now() - this.#started;
    return outcome?.kind === 'feed' ? outcome.boundaries : null;
  }

  async #output(): Promise<Finish> {
    this.#job = this.#plan.begin(this.#credit, (written) => this.#take(written));
    const outcome = await this.#job.outcome;
    return outcome.kind === 'generate' ? outcome.finish : 'stopped';
  }

  #take({ bytes, boundaries }: Written): void {
    if (this.#length === 0) this.#firstByteMs = performance.now() - this.#started;
    this.#length += bytes.length;
    this.#chunks.push({ text: this.#utf8.push(bytes), bytes, boundaries });
    this.#announce();
  }

  #end(finish: Finish, promptBoundaries: Uint8Array<ArrayBuffer> | null): void {
    const tail = this.#utf8.finish(finish !== 'end-of-text');
    if (tail !== '') this.#chunks.push({ text: tail, bytes: new Uint8Array(0), boundaries: this.#masks([]) });
    const totalMs = performance.now() - this.#started;
    const outputMs = totalMs - this.#firstByteMs;
    this.#outcome = 'ended';
    this.#done.resolve({
      text: this.#chunks.map((chunk) => chunk.text).join(''),
      bytes: concatenate(this.#chunks.map((chunk) => chunk.bytes)),
      boundaries: this.#masks(this.#chunks.flatMap(({ boundaries }) => boundaries ?? [])),
      promptBoundaries,
      finish,
      seed: this.seed,
      timings: {
        promptMs: this.#promptMs,
        firstByteMs: this.#firstByteMs,
        totalMs,
        bytesPerSecond: this.#length > 1 && outputMs > 0 ? ((this.#length - 1) * 1000) / outputMs : 0,
      },
    });
  }

  #masks(parts: readonly Uint8Array[]): Uint8Array<ArrayBuffer> | null {
    return this.#plan.boundaries ? concatenate(parts) : null;
  }

  /** The i-th chunk, as soon as it is there; null after the last. */
  async #at(i: number): Promise<Chunk | null> {
    for (;;) {
      const chunk = this.#chunks[i];
      if (chunk) return chunk;
      if (this.#outcome === 'ended') return null;
      if (this.#outcome === 'failed') throw this.#error;
      await this.#news.promise;
    }
  }

  #announce(): void {
    this.#news.resolve(null);
    this.#news = deferred();
  }

  #allow(credit: number): void {
    // In steps of half the allowance, so that reading chunk by chunk does not double the number of messages.
    if (credit < this.#credit + kAhead / 2) return;
    this.#credit = credit;
    this.#job?.allow(credit);
  }

  #stream<T>(pick: (chunk: Chunk) => T | null): ReadableStream<T> {
    const iterator = this[Symbol.asyncIterator]();
    return new ReadableStream<T>(
      {
        async pull(controller) {
          for (;;) {
            const { value, done } = await iterator.next();
            if (done) return controller.close();
            const picked = pick(value);
            if (picked !== null) return controller.enqueue(picked);
          }
        },
        async cancel() {
          await iterator.return();
        },
      },
      { highWaterMark: 0 }, // the generation does its own reading ahead
    );
  }
}

function concatenate(parts: readonly Uint8Array[]): Uint8Array<ArrayBuffer> {
  const all = new Uint8Array(parts.reduce((length, part) => length + part.length, 0));
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return all;
}
