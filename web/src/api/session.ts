// A conversation that is kept between calls.
// SPDX-License-Identifier: MIT

import { kBytes, type Input } from '../codec.js';
import type { ScoreSum } from '../engine/types.js';
import { TernError, badOption } from '../errors.js';
import type { CallOf, Work } from '../host/protocol.js';
import type { AskOptions, Connection, Request } from '../link/connection.js';
import { Generation } from './generation.js';
import {
  toCall,
  toOrder,
  toTracedCall,
  type CallOptions,
  type GenerateOptions,
  type Order,
  type TraceOptions,
} from './options.js';

export interface Score {
  /** Bytes predicted. */
  readonly bytes: number;
  /** Total cost: what a perfect compressor driven by this model would need. */
  readonly bits: number;
  readonly bitsPerByte: number;
  /** Share of bytes that were the model's first choice. */
  readonly top1: number;
  /** Share of bytes among its first five. */
  readonly top5: number;
}

export interface FeedResult {
  /** With `trace.boundaries`: a mask for each of the bytes, bit s set where a chunk of stage s begins. Else null. */
  readonly boundaries: Uint8Array<ArrayBuffer> | null;
}

/** Calls run in the order in which they were made, whether they are awaited or not. */
export class Session implements AsyncDisposable {
  readonly #connection: Connection;
  readonly #id: number;
  readonly #stages: number;
  #position = 0;
  #closed = false;

  private constructor(connection: Connection, stages: number) {
    this.#connection = connection;
    this.#stages = stages;
    this.#id = connection.newId();
    connection.ask({ kind: 'open', session: this.#id });
  }

  /** Called by Model. */
  static open(connection: Connection, stages: number): Session {
    if (connection.failure) throw connection.failure;
    return new Session(connection, stages);
  }

  /** Called by Model: continues the prompt in a session of its own. */
  static generate(connection: Connection, stages: number, prompt: Input, options?: GenerateOptions): Generation {
    const [order, bytes] = [toOrder(options, stages), kBytes.encode('prompt', prompt)];
    const session = Session.open(connection, stages);
    const generation = session.#generate(bytes, order);
    void generation.ended.then(() => session.close());
    return generation;
  }

  /** Bytes of text as of the last call that has ended, in whatever way. */
  get position(): number {
    return this.#position;
  }

  /**
   * Appends to the text. An abort leaves a part of the bytes appended, as does the end of a model's context, which fails
   * with `bad-state`; `position` says how many.
   */
  async feed(input: Input, options?: CallOptions & { trace?: TraceOptions }): Promise<FeedResult> {
    const { traced, signal } = toTracedCall(options, this.#stages);
    const bytes = kBytes.encode('input', input);
    const { boundaries } = await this.#ask({ kind: 'feed', session: this.#id, bytes, traced }, { signal }).answer;
    return { boundaries };
  }

  /** Continues the text; the output becomes part of it. After stop() exactly the bytes of its result were added. */
  stream(options?: GenerateOptions): Generation {
    return this.#generate(null, toOrder(options, this.#stages));
  }

  /** Scores the bytes and appends them; fails as feed() does. */
  async score(input: Input, options?: CallOptions): Promise<Score> {
    const { signal } = toCall(options);
    const bytes = kBytes.encode('input', input);
    return toScore((await this.#ask({ kind: 'score', session: this.#id, bytes }, { signal }).answer).score);
  }

  /** The conversation as bytes that restore() takes on any device with the same model file. */
  async save(): Promise<Uint8Array<ArrayBuffer>> {
    return (await this.#ask({ kind: 'save', session: this.#id }).answer).bytes;
  }

  async restore(saved: Uint8Array): Promise<void> {
    if (typeof saved === 'string') throw badOption('saved', 'a Uint8Array', saved);
    await this.#ask({ kind: 'restore', session: this.#id, bytes: kBytes.encode('saved', saved) }).answer;
  }

  /** Back to an empty text. */
  async reset(): Promise<void> {
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

  #generate(prompt: Uint8Array<ArrayBuffer> | null, { signal, ...order }: Order): Generation {
    if (this.#connection.failure) throw this.#connection.failure;
    return new Generation(order, (credit, onPart) =>
      this.#ask({ kind: 'generate', session: this.#id, prompt, ...order, credit }, { signal, onPart }),
    );
  }

  #ask<K extends Work['kind']>(call: CallOf<K>, options?: AskOptions): Request<K> {
    if (this.#closed) throw new TernError('closed', 'the session was closed');
    return this.#connection.ask(call, { ...options, onPosition: (position) => (this.#position = position) });
  }
}

function toScore({ bytes, bits, top1, top5 }: ScoreSum): Score {
  const each = Math.max(1, bytes);
  return { bytes, bits, bitsPerByte: bits / each, top1: top1 / each, top5: top5 / each };
}
