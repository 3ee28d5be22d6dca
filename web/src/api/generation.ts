// A text in the making: pulled by whoever reads it, so the engine pauses when nobody does.
// SPDX-License-Identifier: MIT
//
// Every reader has its own place in the output; the engine may run ahead of the foremost by kAhead tokens. Whoever asks
// for the result lets it run freely. The first kWhole tokens are kept for the result and for later readers; of a longer
// output nothing is kept that was read, unless the result was asked for: so a stream may go on for ever.

import { kBytes, newDecoder, type Codec, type Decoder } from '../codec.js';
import { deferred } from '../deferred.js';
import type { Finish, Written } from '../engine/types.js';
import { TernError } from '../errors.js';
import type { Part } from '../host/protocol.js';
import type { Request } from '../link/connection.js';
import { Kept } from './kept.js';
import type { Order } from './options.js';
import { readerOf } from './reader.js';

/** A piece of the output: tokens, their bytes, and the characters those completed (none, when they end inside one). */
export interface Chunk {
  readonly text: string;
  readonly bytes: Uint8Array<ArrayBuffer>;
  /** Of a byte model, the bytes once more. */
  readonly tokens: Uint32Array<ArrayBuffer>;
  /** With `trace.boundaries`: a mask for each of the tokens, bit s set where a chunk of stage s begins. Else null. */
  readonly boundaries: Uint8Array<ArrayBuffer> | null;
}

export interface Timings {
  /** Reading the prompt, and waiting for earlier calls on the session. */
  readonly promptMs: number;
  /** From the call to the first token; 0 when there was none. */
  readonly firstByteMs: number;
  /** From the call to the end, pauses included. */
  readonly totalMs: number;
  /** Output after the first token, pauses included; 0 when there was too little to measure. */
  readonly tokensPerSecond: number;
  readonly bytesPerSecond: number;
}

export interface GenerateResult {
  /** The characters of `bytes`. A character that the text before the output had begun is the first of them. */
  readonly text: string;
  /** The whole output; see `from`. */
  readonly bytes: Uint8Array<ArrayBuffer>;
  readonly tokens: Uint32Array<ArrayBuffer>;
  /**
   * How many tokens of the output came before these: 0, except of a stream of more than a million whose result nobody
   * asked for before it was that long. Of such a stream the part that was read is not kept.
   */
  readonly from: number;
  /** As in a chunk, for all tokens. */
  readonly boundaries: Uint8Array<ArrayBuffer> | null;
  /** As in a chunk, for the tokens of the prompt; null also where there was none, or it was not read to its end. */
  readonly promptBoundaries: Uint8Array<ArrayBuffer> | null;
  readonly finish: Finish;
  /** The seed that was used: with the same prompt and options it gives the same bytes again. */
  readonly seed: number | bigint;
  readonly timings: Timings;
}

/** Tokens of output that may be written before anybody has read them. */
export const kAhead = 512;
/** Tokens of output that are kept although they were read. */
export const kWhole = 1 << 20;

/** Sends the request, at once. */
type Ask = (credit: number, onPart: (part: Part) => void) => Request<'generate'>;

/** Somebody who reads the output. */
interface Reader {
  place: number;
}

export class Generation implements AsyncIterable<Chunk>, AsyncDisposable {
  readonly seed: number | bigint;
  readonly #traced: boolean;
  readonly #codec: Codec;
  readonly #request: Request<'generate'>;
  readonly #tokens = new Kept();
  readonly #masks = new Kept();
  readonly #readers = new Set<Reader>();
  readonly #asked = performance.now();
  readonly #promptBoundaries = deferred<Uint8Array<ArrayBuffer> | null>();
  /** When it has ended, in whatever way. */
  readonly ended: Promise<void>;
  #finish: Finish | null = null;
  #failure: { error: unknown } | null = null;
  #before: Uint32Array = new Uint32Array(0); // the last tokens before those kept
  #credit = kAhead;
  #result: Promise<GenerateResult> | null = null;
  #promptMs = 0;
  #firstByteMs = 0;
  #totalMs = 0;
  #news = deferred<null>(); // settled and replaced whenever tokens arrive or the generation ends

  /** Called by Session. */
  constructor({ sampling, traced }: Pick<Order, 'sampling' | 'traced'>, codec: Codec, ask: Ask) {
    this.seed = sampling.seed <= BigInt(Number.MAX_SAFE_INTEGER) ? Number(sampling.seed) : sampling.seed;
    this.#traced = traced;
    this.#codec = codec;
    this.#promptBoundaries.promise.catch(() => undefined); // whoever asks for them gets the error; nobody has to
    this.#request = ask(kAhead, (part) => this.#take(part));
    this.ended = this.#request.answer.then(
      ({ finish }) => this.#end(finish, null),
      (error: unknown) => this.#end(null, { error }),
    );
  }

  /** A reader: the output from its beginning, in pieces as they come. */
  [Symbol.asyncIterator](): AsyncGenerator<Chunk, void, undefined> {
    if (this.#tokens.from > 0) {
      throw new TernError('bad-state', `the first ${this.#tokens.from} tokens of the output were read and not kept`);
    }
    const reader = { place: 0 };
    this.#readers.add(reader); // from now on, not from its first look: it may leave before that
    return readerOf(this.#read(reader), () => this.#leave(reader));
  }

  /** The output as text; a character always arrives whole. */
  get text(): ReadableStream<string> {
    return this.#stream((chunk) => (chunk.text === '' ? null : chunk.text));
  }

  /** The output as bytes, as the model wrote them, well-formed or not. */
  get bytes(): ReadableStream<Uint8Array<ArrayBuffer>> {
    return this.#stream((chunk) => (chunk.bytes.length === 0 ? null : chunk.bytes));
  }

  /** `promptBoundaries` of the result, as soon as the prompt was read: before the first token of the output. */
  get promptBoundaries(): Promise<Uint8Array<ArrayBuffer> | null> {
    return this.#promptBoundaries.promise;
  }

  /** The whole output. Asking for it lets the engine run to the end, whether others read or not. */
  get result(): Promise<GenerateResult> {
    this.#allow(Number.MAX_SAFE_INTEGER);
    return this.#settled();
  }

  /** Ends the generation early and returns what there is. */
  stop(): Promise<GenerateResult> {
    this.#request.cancel();
    return this.#settled();
  }

  /** @internal Tokens of output held in memory now. */
  get keptTokens(): number {
    return this.#tokens.end - this.#tokens.from;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop().catch(() => undefined);
  }

  #take(part: Part): void {
    if (part.kind === 'prompt') {
      this.#before = part.before;
      this.#promptMs = performance.now() - this.#asked;
      this.#promptBoundaries.resolve(part.boundaries);
    } else if (part.kind === 'written') {
      this.#append(part.written);
    }
  }

  #append({ tokens, boundaries }: Written): void {
    if (this.#tokens.end === 0) this.#firstByteMs = performance.now() - this.#asked;
    this.#tokens.append(tokens);
    if (boundaries) this.#masks.append(boundaries);
    if (this.#tokens.end >= this.#credit) this.#request.rest();
    this.#announce();
  }

  #end(finish: Finish | null, failure: { error: unknown } | null): void {
    this.#finish = finish === 'max-bytes' && this.#codec !== kBytes ? 'max-tokens' : finish;
    this.#failure = failure;
    this.#totalMs = performance.now() - this.#asked;
    if (failure) this.#promptBoundaries.reject(failure.error);
    else this.#promptBoundaries.resolve(null); // if it was not read to its end
    this.#announce();
  }

  #announce(): void {
    this.#news.resolve(null);
    this.#news = deferred();
  }

  #allow(credit: number): void {
    // In steps of half the allowance, so that reading chunk by chunk does not double the number of messages.
    if (credit < this.#credit + kAhead / 2) return;
    this.#credit = credit;
    this.#request.allow(credit);
  }

  async *#read(reader: Reader): AsyncGenerator<Chunk, void, undefined> {
    let decoder: Decoder | null = null;
    try {
      for (;;) {
        this.#allow(reader.place + kAhead);
        while (reader.place === this.#tokens.end && !this.#finish && !this.#failure) await this.#news.promise;
        decoder ??= newDecoder(this.#codec, this.#before); // known with the first token
        if (reader.place === this.#tokens.end) break;
        const tokens = this.#tokens.since(reader.place);
        const boundaries = this.#boundariesSince(reader.place);
        reader.place += tokens.length;
        this.#giveUp();
        yield { ...decoder.push(tokens), tokens, boundaries };
      }
      if (this.#failure) throw this.#failure.error;
      const text = decoder.finish(this.#finish !== 'end-of-text');
      const nothing = new Uint8Array(0);
      const boundaries = this.#traced ? nothing : null;
      if (text !== '') yield { text, bytes: nothing, tokens: new Uint32Array(0), boundaries };
    } finally {
      this.#leave(reader);
    }
  }

  #leave(reader: Reader): void {
    this.#readers.delete(reader);
    if (this.#readers.size === 0 && !this.#result) this.#request.cancel();
  }

  /** What all readers have read, if it is much. */
  #giveUp(): void {
    if (this.#result || this.#tokens.end <= kWhole) return;
    const place = Math.min(...[...this.#readers].map((reader) => reader.place));
    if (place - this.#tokens.from < kWhole / 2) return; // not one by one: it moves the others
    this.#before = this.#tokens.since(place - 3).slice(0, 3);
    this.#tokens.giveUpBefore(place);
    if (this.#traced) this.#masks.giveUpBefore(place);
  }

  #boundariesSince(place: number): Uint8Array<ArrayBuffer> | null {
    return this.#traced ? Uint8Array.from(this.#masks.since(place)) : null;
  }

  /** From the first call on, everything is kept. */
  #settled(): Promise<GenerateResult> {
    this.#result ??= this.ended.then(() => {
      if (!this.#finish) throw this.#failure?.error;
      return this.#toResult(this.#finish);
    });
    this.#result.catch(() => undefined); // whoever asks for it gets the error; nobody has to
    return this.#result;
  }

  async #toResult(finish: Finish): Promise<GenerateResult> {
    const { from, end } = this.#tokens;
    const tokens = this.#tokens.since(from);
    const decoder = newDecoder(this.#codec, this.#before);
    const { text, bytes } = decoder.push(tokens);
    const outputMs = this.#totalMs - this.#firstByteMs;
    const tokensPerSecond = end > 1 && outputMs > 0 ? ((end - 1) * 1000) / outputMs : 0;
    return {
      text: text + decoder.finish(finish !== 'end-of-text'),
      bytes,
      tokens,
      from,
      boundaries: this.#boundariesSince(from),
      promptBoundaries: await this.promptBoundaries,
      finish,
      seed: this.seed,
      timings: {
        promptMs: this.#promptMs,
        firstByteMs: this.#firstByteMs,
        totalMs: this.#totalMs,
        tokensPerSecond,
        bytesPerSecond: tokensPerSecond * (bytes.length / Math.max(1, tokens.length)),
      },
    };
  }

  #stream<T>(pick: (chunk: Chunk) => T | null): ReadableStream<T> {
    const reader = this[Symbol.asyncIterator]();
    return new ReadableStream<T>(
      {
        async pull(controller) {
          for (;;) {
            const { value, done } = await reader.next();
            if (done) return controller.close();
            const picked = pick(value);
            if (picked !== null) return controller.enqueue(picked);
          }
        },
        async cancel() {
          await reader.return();
        },
      },
      { highWaterMark: 0 }, // the generation does its own reading ahead
    );
  }
}
