// One story being written: reads the generation as far as the page wants it, and measures it.
// SPDX-License-Identifier: MIT

import type { Chunk, GenerateOptions, Generation, Model } from 'ternlm';
import { Chunking, piecesOf, type Piece } from './chunks.js';

/** The model is asked for this much at most; the page itself pauses much earlier. */
export const kMostTokens = 100_000;

/** Bytes after which the page pauses and offers to go on. */
const kPage = 1200;

/** Characters per second of the reading pace. */
const kReadingPace = 45;

export type StoryEnd = 'paused' | 'finished';

export interface StoryEvents {
  /** Of a hierarchical model: the prompt, cut where its chunks begin. */
  onPrompt(pieces: readonly Piece[]): void;
  /** mask: 0, or which stages of the model begin a chunk with this text. */
  onText(text: string, mask: number): void;
  onProgress(story: Story): void;
  onEnd(how: StoryEnd): void;
  onProblem(error: unknown): void;
}

export class Story {
  readonly prompt: string;
  readonly options: GenerateOptions;
  readonly seed: number | bigint;
  readonly bytes: Uint8Array[] = [];
  /** Milliseconds from the request to the first byte; null before it. */
  firstByteMs: number | null = null;
  length = 0;
  /** Of a hierarchical model. */
  readonly chunking: Chunking | null;
  readonly #model: Model;
  #generation: Generation;
  #chunks: AsyncIterator<Chunk, void>;
  readonly #events: StoryEvents;
  #asked = performance.now();
  readonly #arrivals: { at: number; length: number }[] = [];
  #writing: Promise<void> = Promise.resolve();
  #running = false;
  #finished = false;
  #stopped = false; // before its first byte
  #discarded = false;

  constructor(model: Model, prompt: string, options: GenerateOptions, events: StoryEvents) {
    this.prompt = prompt;
    const { stages } = model.info;
    this.chunking = stages > 0 ? new Chunking(stages) : null;
    this.#model = model;
    this.#events = events;
    this.options = options;
    this.#generation = this.#ask();
    this.#chunks = this.#generation[Symbol.asyncIterator]();
    this.seed = this.#generation.seed;
    this.options = { ...options, seed: this.seed };
  }

  #ask(): Generation {
    const { stages } = this.#model.info;
    const trace = { boundaries: stages > 0 };
    const generation = this.#model.stream(this.prompt, { ...this.options, maxTokens: kMostTokens, trace });
    this.#asked = performance.now();
    void generation.promptBoundaries.then(
      (boundaries) => {
        if (boundaries && !this.#discarded) this.#events.onPrompt(piecesOf(this.prompt, boundaries));
      },
      () => undefined, // whoever reads the story is told
    );
    return generation;
  }

  get running(): boolean {
    return this.#running;
  }

  get finished(): boolean {
    return this.#finished;
  }

  /** Bytes per second over the last second of writing. */
  get speed(): number | null {
    const last = this.#arrivals.at(-1);
    const first = this.#arrivals.find(({ at }) => last !== undefined && at > last.at - 1000);
    if (!last || !first || last.at - first.at < 20) return null;
    return ((last.length - first.length) * 1000) / (last.at - first.at);
  }

  /** Writes on until `until` bytes, a pause, or the end of the story. */
  async write(slowly: () => boolean, until = this.length + kPage): Promise<void> {
    await this.#writing; // a pause takes effect with the next bytes; the loop may still be waiting for them
    if (this.#stopped) {
      this.#stopped = false;
      this.#generation = this.#ask();
      this.#chunks = this.#generation[Symbol.asyncIterator]();
    }
    this.#running = true;
    this.#writing = this.#write(slowly, until);
    await this.#writing;
  }

  async #write(slowly: () => boolean, until: number): Promise<void> {
    this.#arrivals.length = 0; // the engine has waited: what lies ready now says nothing about its speed
    try {
      while (this.#running && this.length < until) {
        const { value, done } = await this.#chunks.next();
        if (this.#discarded) return;
        if (done && this.#stopped) break;
        if (done) {
          this.#finished = true;
          this.#running = false;
          return this.#events.onEnd('finished');
        }
        await this.#take(value, slowly);
      }
      this.#running = false;
      if (!this.#discarded) this.#events.onEnd('paused');
    } catch (error) {
      this.#running = false;
      if (!this.#discarded) this.#events.onProblem(error);
    }
  }

  /** The reading stops, and with it the engine, a few bytes further on. A prompt half read will be read anew. */
  pause(): void {
    this.#running = false;
    if (this.length > 0) return;
    this.#stopped = true;
    void this.#generation.stop().catch(() => undefined);
  }

  /** Ends the work for good. */
  discard(): void {
    this.#discarded = true;
    this.#running = false;
    void this.#generation.stop().catch(() => undefined);
  }

  async #take(chunk: Chunk, slowly: () => boolean): Promise<void> {
    const { bytes } = chunk;
    this.firstByteMs ??= performance.now() - this.#asked;
    this.bytes.push(bytes);
    this.length += bytes.length;
    this.#arrivals.push({ at: performance.now(), length: this.length });
    const pieces = this.#piecesOf(chunk);
    this.#events.onProgress(this);
    for (const piece of pieces) await this.#show(piece, slowly);
  }

  /** The end of a text that breaks off inside a character has no bytes of its own. */
  #piecesOf({ text, bytes, boundaries }: Chunk): Piece[] {
    if (!this.chunking || !boundaries || bytes.length === 0) return [{ text, mask: 0 }];
    return this.chunking.push(bytes, boundaries);
  }

  async #show({ text, mask }: Piece, slowly: () => boolean): Promise<void> {
    let shown = 0;
    for (const character of slowly() ? text : '') {
      if (!this.#running || !slowly()) break;
      this.#events.onText(character, shown === 0 ? mask : 0);
      shown += character.length;
      await delay(1000 / kReadingPace);
    }
    if (!this.#discarded && shown < text.length) this.#events.onText(text.slice(shown), shown === 0 ? mask : 0);
  }
}

function delay(milliseconds: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}
