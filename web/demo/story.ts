// One story being written: reads the generation as far as the page wants it, and measures it.
// SPDX-License-Identifier: MIT

import type { Chunk, GenerateOptions, Generation, Model } from 'ternlm';

/** The model is asked for this much at most; the page itself pauses much earlier. */
const kMostBytes = 100_000;

/** Bytes after which the page pauses and offers to go on. */
const kPage = 1200;

/** Characters per second of the reading pace. */
const kReadingPace = 45;

export type StoryEnd = 'paused' | 'finished';

export interface StoryEvents {
  onText(text: string): void;
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
  readonly #generation: Generation;
  readonly #chunks: AsyncIterator<Chunk, void>;
  readonly #events: StoryEvents;
  readonly #asked = performance.now();
  readonly #arrivals: { at: number; length: number }[] = [];
  #writing: Promise<void> = Promise.resolve();
  #running = false;
  #finished = false;
  #discarded = false;

  constructor(model: Model, prompt: string, options: GenerateOptions, events: StoryEvents) {
    this.prompt = prompt;
    this.#generation = model.stream(prompt, { ...options, maxBytes: kMostBytes });
    this.#chunks = this.#generation[Symbol.asyncIterator]();
    this.seed = this.#generation.seed;
    this.options = { ...options, seed: this.seed };
    this.#events = events;
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

  /** The reading stops, and with it the engine, a few bytes further on. */
  pause(): void {
    this.#running = false;
  }

  /** Ends the work for good. */
  discard(): void {
    this.#discarded = true;
    this.#running = false;
    void this.#generation.stop().catch(() => undefined);
  }

  async #take({ text, bytes }: Chunk, slowly: () => boolean): Promise<void> {
    this.firstByteMs ??= performance.now() - this.#asked;
    this.bytes.push(bytes);
    this.length += bytes.length;
    this.#arrivals.push({ at: performance.now(), length: this.length });
    this.#events.onProgress(this);
    let shown = 0;
    for (const character of slowly() ? text : '') {
      if (!this.#running || !slowly()) break;
      this.#events.onText(character);
      shown += character.length;
      await delay(1000 / kReadingPace);
    }
    if (!this.#discarded) this.#events.onText(text.slice(shown));
  }
}

function delay(milliseconds: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}
