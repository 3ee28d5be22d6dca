// A text in the making: pulled by whoever reads it, so the engine pauses when nobody does.
// SPDX-License-Identifier: MIT
//
// Every reader has its own place in the output; the engine may run ahead of the foremost by kAhead tokens. Whoever asks
// for the result lets it run freely. The first kWhole tokens are kept for the result and for later readers; of a longer
// output nothing is kept that was read, unless the result was asked for: so a stream may go on for ever.

import { kBytes, newDecoder, type Codec, type Decoder, type Input } from '../codec.js';
import { deferred } from '../deferred.js';
import type { Aid } from '../constraints/index.js';
import type { Finish, Written } from '../engine/types.js';
import { TernError } from '../errors.js';
import type { TokenLogprob } from '../extras.js';
import type { Part } from '../host/protocol.js';
import type { Request } from '../link/connection.js';
import { Kept } from './kept.js';
import type { GenerateOptions, Order } from './options.js';
import { readerOf } from './reader.js';

/** A piece of the output: tokens, their bytes, and the characters those completed (none, when they end inside one). */
export interface Chunk {
  readonly text: string;
  readonly bytes: Uint8Array<ArrayBuffer>;
  /** Of a byte model, the bytes once more. */
  readonly tokens: Uint32Array<ArrayBuffer>;
  /** With `trace.boundaries`: a mask for each of the tokens, bit s set where a chunk of stage s begins. Else null. */
  readonly boundaries: Uint8Array<ArrayBuffer> | null;
  /** With `logprobs`: of each of the tokens. Else null. */
  readonly logprobs: readonly TokenLogprob[] | null;
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
  /** The token that ends a turn is the last of them, if one did. */
  readonly tokens: Uint32Array<ArrayBuffer>;
  /**
   * How many tokens of the output came before these: 0, except of a stream of more than a million whose result nobody
   * asked for before it was that long. Of such a stream the part that was read is not kept.
   */
  readonly from: number;
  /** As in a chunk, for all tokens. */
  readonly boundaries: Uint8Array<ArrayBuffer> | null;
  /** As in a chunk, for all tokens. */
  readonly logprobs: readonly TokenLogprob[] | null;
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
export type Ask = (credit: number, onPart: (part: Part) => void) => Request<'generate'>;

/** What was asked for, for those who go on with it or repeat it. */
export interface Origin {
  /** As it was given; null where the text of a session goes on. */
  readonly prompt: Input | null;
  readonly options: GenerateOptions;
  readonly order: Omit<Order, 'given' | 'signal'>;
  /** The session as it is now, as save() gives it. */
  readonly peek: () => Promise<Uint8Array<ArrayBuffer>>;
}

/** The output before an interruption, and the last tokens before it. */
export interface Past extends Written {
  readonly before: Uint32Array<ArrayBuffer>;
}

/** Somebody who reads the output. */
interface Reader {
  place: number;
}

export class Generation implements AsyncIterable<Chunk>, AsyncDisposable {
  readonly seed: number | bigint;
  /** @internal */
  readonly origin: Origin;
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
  readonly #aided: Promise<Aid> | null;
  #aid: Aid | null = null; // once it is loaded
  #paused = false;
  #result: Promise<GenerateResult> | null = null;
  #promptMs = 0;
  #firstByteMs = 0;
  #totalMs = 0;
  #news = deferred<null>(); // settled and replaced whenever tokens arrive or the generation ends

  /** Called by Session. */
  constructor(codec: Codec, ask: Ask, origin: Origin, aided: Promise<Aid> | null = null, past: Past | null = null) {
    const { sampling, traced } = origin.order;
    this.origin = origin;
    this.seed = sampling.seed <= BigInt(Number.MAX_SAFE_INTEGER) ? Number(sampling.seed) : sampling.seed;
    this.#traced = traced;
    this.#codec = codec;
    this.#promptBoundaries.promise.catch(() => undefined); // whoever asks for them gets the error; nobody has to
    this.#aided = aided;
    this.#request = ask(aided ? 0 : kAhead, (part) => this.#take(part));
    if (past) {
      this.#before = past.before;
      this.#append(past);
    }
    aided?.then(
      (aid) => this.#begin(aid),
      () => this.#request.cancel(),
    );
    this.ended = Promise.all([this.#request.answer, aided]).then(
      ([{ finish }]) => this.#end(finish, null),
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

  /** Nothing more is written until resume(); calls on the same session wait, other sessions go on. */
  pause(): void {
    this.#paused = true;
    this.#request.allow(0);
    this.#request.rest();
  }

  resume(): void {
    this.#paused = false;
    if (!this.#aided || this.#aid) this.#request.allow(this.#credit);
  }

  /**
   * What model.resume() takes to go on with the same bytes, after a reload or on another device with the same model file:
   * the session (`info.stateBytes` and some KB), the options, and the output so far. The generation itself goes on.
   * TernError 'bad-state': it has ended, or its output is not kept any more.
   */
  async checkpoint(): Promise<string> {
    const { write } = await import('./checkpoint.js');
    await this.promptBoundaries; // it was read
    const { order, peek, prompt, options } = this.origin;
    const state = this.#finish ? null : await peek();
    if (!state || this.#finish || this.#failure || this.#tokens.from > 0) {
      throw new TernError('bad-state', 'expected a generation in progress: this one has ended, or is not kept whole');
    }
    return write({
      ...order,
      state,
      before: this.#before.slice(),
      tokens: this.#tokens.since(0),
      boundaries: this.#boundariesSince(0),
      origin: { prompt, options: { ...options, signal: undefined } },
    });
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

  /** @internal The output so far, of which the beginning may be gone (see `from` of the result). */
  get written(): Uint32Array<ArrayBuffer> {
    return this.#tokens.since(this.#tokens.from);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop().catch(() => undefined);
  }

  #take(part: Part): void {
    if (part.kind === 'prompt') {
      if (this.#tokens.end === 0) this.#before = part.before; // else it goes on after what was written before
      this.#promptMs = performance.now() - this.#asked;
      this.#promptBoundaries.resolve(part.boundaries);
    } else if (part.kind === 'written') {
      this.#append(part.written);
    }
  }

  #begin(aid: Aid): void {
    this.#aid = aid;
    aid.logprobs?.giveUpBefore(this.#tokens.end); // of what was written before an interruption
    this.#request.allow(this.#paused ? 0 : this.#credit, aid.rules);
  }

  #append({ tokens, boundaries, logits }: Written): void {
    if (this.#tokens.end === 0) this.#firstByteMs = performance.now() - this.#asked;
    this.#tokens.append(tokens);
    if (boundaries) this.#masks.append(boundaries);
    if (logits) this.#aid?.logprobs?.append(tokens, logits);
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
    if (!this.#paused && (!this.#aided || this.#aid)) this.#request.allow(credit);
  }

  async *#read(reader: Reader): AsyncGenerator<Chunk, void, undefined> {
    let decoder: Decoder | null = null;
    try {
      for (;;) {
        this.#allow(reader.place + kAhead);
        while (reader.place === this.#tokens.end && !this.#finish && !this.#failure) await this.#news.promise;
        decoder ??= this.#newDecoder(); // what comes before is known with the first token
        if (reader.place === this.#tokens.end) break;
        const tokens = this.#tokens.since(reader.place);
        const boundaries = this.#boundariesSince(reader.place);
        const logprobs = this.#logprobsSince(reader.place);
        reader.place += tokens.length;
        this.#giveUp();
        yield { ...decoder.push(tokens), tokens, boundaries, logprobs };
      }
      if (this.#failure) throw this.#failure.error;
      const end = endOf(decoder, this.#finish);
      const boundaries = this.#traced ? new Uint8Array(0) : null;
      const logprobs = this.#aid?.logprobs ? [] : null;
      if (end.text !== '' || end.bytes.length > 0) yield { ...end, tokens: new Uint32Array(0), boundaries, logprobs };
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
    this.#aid?.logprobs?.giveUpBefore(place);
  }

  #newDecoder(): Decoder {
    return this.#aid?.decoder(this.#before) ?? newDecoder(this.#codec, this.#before);
  }

  #logprobsSince(place: number): TokenLogprob[] | null {
    return this.#aid?.logprobs?.since(place) ?? null;
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
    const decoder = this.#newDecoder();
    const { text, bytes } = joined(decoder.push(tokens), endOf(decoder, finish));
    const outputMs = this.#totalMs - this.#firstByteMs;
    const tokensPerSecond = end > 1 && outputMs > 0 ? ((end - 1) * 1000) / outputMs : 0;
    return {
      text,
      bytes,
      tokens,
      from,
      boundaries: this.#boundariesSince(from),
      logprobs: this.#logprobsSince(from),
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

interface Piece {
  readonly text: string;
  readonly bytes: Uint8Array<ArrayBuffer>;
}

/** What comes to light when nothing more comes: what was kept back, and a character that was not finished. */
function endOf(decoder: Decoder, finish: Finish | null): Piece {
  const { text, bytes } = decoder.rest?.() ?? { text: '', bytes: new Uint8Array(0) };
  return { text: text + decoder.finish(finish !== 'end-of-text'), bytes };
}

function joined(a: Piece, b: Piece): Piece {
  const bytes = b.bytes.length === 0 ? a.bytes : Uint8Array.from([...a.bytes, ...b.bytes]);
  return { text: a.text + b.text, bytes };
}
