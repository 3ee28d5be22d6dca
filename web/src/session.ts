// A conversation that is kept between calls.
// SPDX-License-Identifier: MIT

import type { Client } from './client.js';
import { TernError } from './errors.js';
import { Generation } from './generation.js';
import { toEngineOptions, wantsBoundaries, type GenerateOptions, type TraceOptions } from './options.js';
import type { Outcome, Task } from './protocol.js';
import { toBytes, type Input } from './utf8.js';

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

/** Calls run in the order in which they were made. */
export class Session implements AsyncDisposable {
  readonly #client: Client;
  readonly #id: number;
  readonly #stages: number;
  #position = 0;
  #closed = false;

  private constructor(client: Client, stages: number) {
    this.#client = client;
    this.#stages = stages;
    this.#id = client.open();
  }

  /** Called by Model.session(). */
  static open(client: Client, stages: number): Session {
    return new Session(client, stages);
  }

  /** Bytes of text as of the last finished call. */
  get position(): number {
    return this.#position;
  }

  /** Appends to the text. An abort leaves a part of the bytes appended. */
  async feed(input: Input, options: { signal?: AbortSignal; trace?: TraceOptions } = {}): Promise<FeedResult> {
    const boundaries = wantsBoundaries(options, this.#stages);
    const outcome = await this.#run({ kind: 'feed', bytes: toBytes(input).slice(), boundaries }, options.signal);
    if (outcome.kind === 'feed') return { boundaries: outcome.boundaries };
    throw unexpected(outcome);
  }

  /** Continues the text; the output becomes part of it. After stop() exactly the bytes of its result were added. */
  stream(options: GenerateOptions = {}): Generation {
    const engineOptions = toEngineOptions(options);
    const boundaries = wantsBoundaries(options, this.#stages);
    const client = this.#open();
    return new Generation({
      seed: engineOptions.seed,
      boundaries,
      prepare: () => null,
      begin: (credit, onWritten) => {
        const task: Task = { kind: 'generate', options: engineOptions, boundaries, credit };
        const job = client.run(this.#id, task, { signal: options.signal, onWritten });
        void job.outcome.then((outcome) => (this.#position = outcome.position)).catch(() => undefined);
        return job;
      },
      release: () => undefined,
    });
  }

  /** Scores the bytes and appends them. */
  async score(input: Input, options: { signal?: AbortSignal } = {}): Promise<Score> {
    return toScore(await this.#run({ kind: 'score', bytes: toBytes(input).slice() }, options.signal));
  }

  /** The conversation as bytes that restore() takes on any device with the same model file. */
  async save(): Promise<Uint8Array<ArrayBuffer>> {
    const outcome = await this.#run({ kind: 'save' });
    if (outcome.kind === 'save') return outcome.bytes;
    throw unexpected(outcome);
  }

  async restore(saved: Uint8Array): Promise<void> {
    await this.#run({ kind: 'restore', bytes: saved.slice() });
  }

  /** Back to an empty text. */
  async reset(): Promise<void> {
    await this.#run({ kind: 'reset' });
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    this.#client.shut(this.#id);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  async #run(task: Task, signal?: AbortSignal): Promise<Outcome> {
    const outcome = await this.#open().run(this.#id, task, { signal }).outcome;
    this.#position = outcome.position;
    return outcome;
  }

  #open(): Client {
    if (this.#closed) throw new TernError('closed', 'the session was closed');
    if (this.#client.failure) throw this.#client.failure;
    return this.#client;
  }
}

export function toScore(outcome: Outcome): Score {
  if (outcome.kind !== 'score') throw unexpected(outcome);
  const { bytes, bits, top1, top5 } = outcome.score;
  const each = Math.max(1, bytes);
  return { bytes, bits, bitsPerByte: bits / each, top1: top1 / each, top5: top5 / each };
}

function unexpected(outcome: Outcome): TernError {
  return new TernError('engine-failed', `unexpected answer ${outcome.kind} from the engine`);
}
