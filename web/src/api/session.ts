// A conversation that is kept between calls.
// SPDX-License-Identifier: MIT

import { newDecoder, toBytes, toTokens, type Input } from '../codec.js';
import { TernError, badOption } from '../errors.js';
import type { Coding } from '../compress.js';
import type { CallOf, Part, Work } from '../host/protocol.js';
import type { AskOptions, Connection, Request } from '../link/connection.js';
import { loadAid } from './aid.js';
import { Generation, type Ask, type Origin, type Past } from './generation.js';
import {
  checked,
  toInteger,
  toMemory,
  toOrder,
  toSignal,
  toTextOrder,
  toTop,
  type CallOptions,
  type GenerateOptions,
  type Order,
  type ScoreOptions,
  type SessionOptions,
  type TextOptions,
  type TraceOptions,
  type Traits,
} from './options.js';
import { kNothing, readScores, sumOf, type Sum, type TokenScore } from './scores.js';

export interface Score {
  /** Bytes of the text. */
  readonly bytes: number;
  /** Tokens predicted; of a byte model, the bytes. */
  readonly tokens: number;
  /** Total cost: what a perfect compressor driven by this model would need. */
  readonly bits: number;
  readonly bitsPerByte: number;
  /** Share of tokens that were the model's first choice. */
  readonly top1: number;
  /** Share of tokens among its first five. */
  readonly top5: number;
}

export interface FeedResult {
  /** With `trace.boundaries`: a mask for each of the tokens, bit s set where a chunk of stage s begins. Else null. */
  readonly boundaries: Uint8Array<ArrayBuffer> | null;
}

/** What the model expects next, for each token of its vocabulary; of a byte model, each byte. */
export interface Distribution {
  /** Natural logarithms up to a constant, in units of 1/65536: the same integers on every device. */
  readonly logits: Int32Array<ArrayBuffer>;
  /** Their softmax, which sums to 1; in floating point, so that its last digits may differ between browsers. */
  readonly probabilities: Float64Array<ArrayBuffer>;
}

/** Calls run in the order in which they were made, whether they are awaited or not. */
export class Session implements AsyncDisposable {
  readonly #connection: Connection;
  readonly #id: number;
  readonly #traits: Traits;
  #position = 0;
  #begins = true; // nothing comes before the next text, once the calls so far have ended
  #closed = false;

  private constructor(connection: Connection, traits: Traits) {
    this.#connection = connection;
    this.#traits = traits;
    this.#id = connection.newId();
  }

  /** Called by Model. `options`: of a session that is kept; null: of one that need not go back. */
  static open(connection: Connection, traits: Traits, options: SessionOptions | null | undefined = null): Session {
    if (connection.failure) throw connection.failure;
    const memory = options === null ? null : toMemory(options);
    const session = new Session(connection, traits);
    connection.ask({ kind: 'open', session: session.#id, memory });
    return session;
  }

  /** Called by Model: a kept session with a snapshot's text. */
  static async restored(
    connection: Connection,
    traits: Traits,
    snapshot: Uint8Array,
    options?: SessionOptions,
  ): Promise<Session> {
    const session = Session.open(connection, traits, options ?? {});
    try {
      await session.restore(snapshot);
      return session;
    } catch (error) {
      await session.close();
      throw error;
    }
  }

  /** Called by Model: continues the prompt in a session of its own. */
  static generate(connection: Connection, traits: Traits, prompt: Input, options?: GenerateOptions): Generation {
    const order = toOrder(options, traits);
    const tokens = toTokens(traits.codec, 'prompt', prompt, { control: options?.control ?? false, begins: true });
    const session = Session.open(connection, traits);
    const generation = session.#generate(tokens, order, prompt);
    void generation.ended.then(() => session.close());
    return generation;
  }

  /** Called by Model: scores the text in a session of its own. */
  static scoreStream(
    connection: Connection,
    traits: Traits,
    text: Input,
    options?: ScoreOptions,
  ): AsyncGenerator<TokenScore, void, undefined> {
    const session = Session.open(connection, traits);
    try {
      const { scores, ended } = session.#scores(text, options);
      void ended.then(() => session.close());
      return scores;
    } catch (error) {
      void session.close();
      throw error;
    }
  }

  /** Called by Model: goes on where the checkpoint was made, in a session of its own. */
  static async resume(
    connection: Connection,
    traits: Traits,
    checkpoint: string,
    options?: CallOptions,
  ): Promise<Generation> {
    const signal = toSignal(checked('', options, 'signal').signal);
    const { read } = await import('./checkpoint.js');
    const { state, origin, ...rest } = read(checkpoint);
    const session = Session.open(connection, traits);
    try {
      await session.restore(state);
      const { before, tokens, boundaries, ...order } = rest;
      const asked = { ...order, given: origin.options, signal };
      const generation = session.#generate(null, asked, origin.prompt, { before, tokens, boundaries });
      void generation.ended.then(() => session.close());
      return generation;
    } catch (error) {
      void session.close();
      throw error;
    }
  }

  /** Called by Model: what codes data as a text of its own. */
  static coding(
    connection: Connection,
    traits: Traits,
    fingerprint: string,
    signal: AbortSignal | undefined,
  ): Coding & AsyncDisposable {
    const session = Session.open(connection, traits);
    const id = session.#id;
    return {
      codec: traits.codec,
      fingerprint,
      encode: async (tokens) => (await session.#ask({ kind: 'encode', session: id, tokens }, { signal }).answer).bytes,
      decode: async (bytes, count) =>
        (await session.#ask({ kind: 'decode', session: id, bytes, count }, { signal }).answer).tokens,
      [Symbol.asyncDispose]: async () => session.close(),
    };
  }

  /** Tokens of text, of a byte model bytes, as of the last call that has ended, in whatever way. */
  get position(): number {
    return this.#position;
  }

  /**
   * Appends to the text. An abort leaves a part of the tokens appended, as does the end of a model's context, which fails
   * with `bad-state`; `position` says how many.
   */
  async feed(input: Input, options?: TextOptions & { trace?: TraceOptions }): Promise<FeedResult> {
    const { traced, control, signal } = toTextOrder(options, this.#traits);
    const tokens = this.#toTokens(input, control);
    const { boundaries } = await this.#ask({ kind: 'feed', session: this.#id, tokens, traced }, { signal }).answer;
    return { boundaries };
  }

  /**
   * Continues the text, after appending `prompt` to it; the output becomes part of it. After stop() exactly the tokens of
   * its result were added.
   */
  stream(options?: GenerateOptions, prompt: Input = ''): Generation {
    const order = toOrder(options, this.#traits);
    const tokens = this.#toTokens(prompt, options?.control ?? false);
    return this.#generate(tokens.length > 0 ? tokens : null, order);
  }

  /** Scores the text and appends it; fails as feed() does. */
  async score(input: Input, options?: TextOptions): Promise<Score> {
    const { control, signal } = toTextOrder(options, this.#traits, 'signal control');
    const begins = this.#begins;
    const tokens = this.#toTokens(input, control);
    const { bytes } = newDecoder(this.#traits.codec, new Uint32Array(0), begins).push(tokens);
    let sum = kNothing;
    const onPart = (part: Part): void => void (part.kind === 'scored' && (sum = sumOf(part, sum)));
    await this.#ask({ kind: 'score', session: this.#id, tokens, top: 0, credit: Infinity }, { signal, onPart }).answer;
    return toScore(sum, bytes.length);
  }

  /**
   * What each token costs, while the text is appended; fails as feed() does. At most a few hundred tokens are scored
   * before they are read, and later calls on the session wait until all were: leaving the loop calls the rest off.
   */
  scoreStream(input: Input, options?: ScoreOptions): AsyncGenerator<TokenScore, void, undefined> {
    return this.#scores(input, options).scores;
  }

  /** The whole distribution of the next token. The text stays as it is; the model computes nothing anew for it. */
  async next(options?: CallOptions): Promise<Distribution> {
    const signal = toSignal(checked('', options, 'signal').signal);
    const call = { kind: 'next', session: this.#id, vocabulary: this.#traits.codec.size } as const;
    const { logits } = await this.#ask(call, { signal }).answer;
    return { logits, probabilities: softmax(logits) };
  }

  /** Another session that goes on from here, and can go back as far. It costs as much as a snapshot. */
  async fork(): Promise<Session> {
    const fork = new Session(this.#connection, this.#traits);
    fork.#begins = this.#begins;
    await this.#ask({ kind: 'fork', session: this.#id, to: fork.#id }).answer;
    fork.#position = this.#position;
    return fork;
  }

  /**
   * What the text has come to, as bytes that restore() and `model.restore()` take on any device with the same model file:
   * also in the middle of a character. The same text gives the same bytes.
   */
  async snapshot(): Promise<Uint8Array<ArrayBuffer>> {
    return (await this.#ask({ kind: 'save', session: this.#id }).answer).bytes;
  }

  /** snapshot() under its older name. */
  async save(): Promise<Uint8Array<ArrayBuffer>> {
    return this.snapshot();
  }

  /** Back to a snapshot; `bad-state` if it is damaged or of another model, and nothing has changed. */
  async restore(snapshot: Uint8Array): Promise<void> {
    if (typeof snapshot === 'string') throw badOption('snapshot', 'a Uint8Array', snapshot);
    const bytes = toBytes('snapshot', snapshot);
    this.#begins = bytes.subarray(16, 24).every((byte) => byte === 0); // its position
    await this.#ask({ kind: 'restore', session: this.#id, bytes }).answer;
  }

  /**
   * Back to where the text had `to` tokens, of a byte model bytes. So many tokens are read again at most as are taken
   * back, or 256, as long as the states that are kept along the way fit into `checkpoints` bytes; without them, all that
   * is left. An abort leaves a part of it. A restored session cannot go back behind its snapshot.
   */
  async rewind(to: number, options?: CallOptions): Promise<void> {
    const signal = toSignal(checked('', options, 'signal').signal);
    toInteger('to', to, 0, Number.MAX_SAFE_INTEGER);
    this.#begins = to === 0;
    await this.#ask({ kind: 'rewind', session: this.#id, to }, { signal }).answer;
  }

  /** Back to an empty text. */
  async reset(): Promise<void> {
    this.#begins = true;
    await this.#ask({ kind: 'reset', session: this.#id }).answer;
  }

  /** What has not ended yet fails with `closed`. */
  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    // Where the model was closed or has failed, there is nothing left to give back.
    await this.#connection.ask({ kind: 'shut', session: this.#id }).answer.catch(() => undefined);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  #scores(input: Input, options: ScoreOptions | undefined): ReturnType<typeof readScores> {
    const { codec } = this.#traits;
    const { control, signal } = toTextOrder(options, this.#traits, 'signal control top');
    const top = toTop(options?.top, codec);
    const tokens = this.#toTokens(input, control);
    return readScores(codec, (credit, onPart) =>
      this.#ask({ kind: 'score', session: this.#id, tokens, top, credit }, { signal, onPart }),
    );
  }

  #toTokens(input: Input, control: boolean): Uint32Array<ArrayBuffer> {
    const tokens = toTokens(this.#traits.codec, 'input', input, { control, begins: this.#begins });
    if (tokens.length > 0) this.#begins = false;
    return tokens;
  }

  /** `asked`: of a model's own generation, its prompt as it was given. */
  #generate(
    prompt: Uint32Array<ArrayBuffer> | null,
    { signal, extras, given, ...order }: Order,
    asked: Input | null = null,
    past: Past | null = null,
  ): Generation {
    if (this.#connection.failure) throw this.#connection.failure;
    this.#begins = false;
    const { codec, turnEnd } = this.#traits;
    const logits = (extras?.logprobs ?? false) === false ? 0 : codec.size;
    const session = this.#id;
    const drawn = past?.tokens.slice() ?? new Uint32Array(0);
    const ask: Ask = (credit, onPart) =>
      this.#ask({ kind: 'generate', session, prompt, ...order, turnEnd, logits, credit, drawn }, { signal, onPart });
    const origin: Origin = {
      prompt: asked,
      options: given,
      order: { ...order, extras },
      peek: async () => (await this.#connection.ask({ kind: 'peek', session }).answer).bytes,
    };
    return new Generation(codec, ask, origin, extras && loadAid(extras, codec), past);
  }

  #ask<K extends Work['kind']>(call: CallOf<K>, options?: AskOptions): Request<K> {
    if (this.#closed) throw new TernError('closed', 'the session was closed');
    return this.#connection.ask(call, { ...options, onPosition: (position) => (this.#position = position) });
  }
}

function softmax(logits: Int32Array): Float64Array<ArrayBuffer> {
  const largest = logits.reduce((a, b) => Math.max(a, b), -(2 ** 31));
  const weights = Float64Array.from(logits, (logit) => Math.exp((logit - largest) / 65536));
  const sum = weights.reduce((a, b) => a + b, 0);
  return weights.map((weight) => weight / sum);
}

function toScore({ tokens, bits, top1, top5 }: Sum, bytes: number): Score {
  const each = Math.max(1, tokens);
  return { bytes, tokens, bits, bitsPerByte: bits / Math.max(1, bytes), top1: top1 / each, top5: top5 / each };
}
