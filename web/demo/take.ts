// What the model writes after one beginning: read as far as the page wants it, measured, and given out at the pace of a
// reader or as it comes.
// SPDX-License-Identifier: MIT

import type { Chunk, GenerateOptions, Generation, Model } from 'ternlm';

/** The model is asked for this much at most; the page itself pauses much earlier. */
export const kMostTokens = 100_000;

/** Bytes after which the page pauses and offers to go on; also how far the engine may be ahead of the reader. */
const kPage = 1200;

/** Characters per second of the reading pace. */
const kReadingPace = 45;

/** Milliseconds between two looks at what is due at that pace, and how far behind it may fall without catching up. */
const kBeat = 30;
const kLate = 2000;

export type Ending = 'paused' | 'finished';

export interface TakeEvents {
  onText(text: string): void;
  /** Something that can be shown of the take has changed. */
  onProgress(): void;
  onEnd(how: Ending): void;
  onProblem(error: unknown): void;
}

/** Text and its bytes, except where the model wrote no well-formed UTF-8. */
interface Piece {
  readonly text: string;
  readonly bytes: Uint8Array;
  /** Of a hierarchical model: for each byte, which stages begin a chunk with it. */
  readonly masks: Uint8Array | null;
}

const kNothing = new Uint8Array(0);
const encoder = new TextEncoder();

export class Take {
  readonly prompt: string;
  /** With the seed that is used. */
  readonly options: GenerateOptions;
  readonly seed: number | bigint;
  /** Milliseconds from the request to the first byte; null before it. */
  firstByteMs: number | null = null;
  /** Bytes that were shown, and the pieces they were shown in. */
  length = 0;
  readonly pieces: Piece[] = [];
  readonly #model: Model;
  readonly #events: TakeEvents;
  #generation: Generation;
  #asked = 0;
  #queue: Piece[] = []; // what came and was not shown yet
  #queued = 0; // its bytes
  #carry: Piece = { text: '', bytes: kNothing, masks: kNothing }; // bytes of a character whose end has not come
  #wake = (): void => undefined; // whoever waits for a piece
  #makeRoom = (): void => undefined; // whoever waits for the queue to become shorter
  #ended = false; // nothing more will come
  #failure: { error: unknown } | null = null;
  #arrived = 0; // bytes
  readonly #arrivals: { at: number; bytes: number }[] = [];
  #isMeasured = true; // the engine has not had to wait yet
  #writing: Promise<void> = Promise.resolve();
  #running = false;
  #finished = false;
  #stopped = false; // before its first byte
  #discarded = false;

  constructor(model: Model, prompt: string, options: GenerateOptions, events: TakeEvents) {
    this.prompt = prompt;
    this.#model = model;
    this.#events = events;
    this.options = options;
    this.#generation = this.#ask();
    this.seed = this.#generation.seed;
    this.options = { ...options, seed: this.seed };
    void this.#read(this.#generation);
  }

  get running(): boolean {
    return this.#running;
  }

  get finished(): boolean {
    return this.#finished;
  }

  /** Of a hierarchical model: for each byte of the prompt, which stages begin a chunk with it. */
  get promptMasks(): Promise<Uint8Array | null> {
    return this.#generation.promptBoundaries.catch(() => null);
  }

  /** Bytes per second of the engine, over its last second of writing; whoever reads at leisure does not slow it down. */
  get speed(): number | null {
    const last = this.#arrivals.at(-1);
    const first = this.#arrivals.find(({ at }) => last !== undefined && at > last.at - 1000);
    if (!last || !first || last.at - first.at < 20) return null;
    return ((last.bytes - first.bytes) * 1000) / (last.at - first.at);
  }

  /** Shows on until `until` bytes, a pause, or the end of the story. */
  async write(slowly: () => boolean, until = this.length + kPage): Promise<void> {
    await this.#writing; // a pause takes effect at once, but its loop may have to end
    if (this.#discarded) return;
    if (this.#stopped) {
      this.#stopped = false;
      this.#generation = this.#ask();
      void this.#read(this.#generation);
    }
    this.#running = true;
    this.#writing = this.#write(slowly, until);
    await this.#writing;
  }

  /** At once; a prompt half read will be read anew. */
  pause(): void {
    this.#running = false;
    if (this.#arrived === 0 && !this.#ended) {
      this.#stopped = true;
      void this.#generation.stop().catch(() => undefined);
    }
    this.#wake();
  }

  /** Ends the work for good. */
  discard(): void {
    this.#discarded = true;
    this.#running = false;
    void this.#generation.stop().catch(() => undefined);
    this.#wake();
    this.#makeRoom();
  }

  #ask(): Generation {
    const trace = { boundaries: this.#model.info.stages > 0 };
    this.#asked = performance.now();
    return this.#model.stream(this.prompt, { ...this.options, maxTokens: kMostTokens, trace });
  }

  /** Fills the queue, as long as it is short. */
  async #read(generation: Generation): Promise<void> {
    const isCurrent = (): boolean => generation === this.#generation && !this.#stopped && !this.#discarded;
    try {
      for await (const chunk of generation) {
        if (!isCurrent()) return;
        this.#take(chunk);
        if (this.#queued >= kPage) {
          this.#isMeasured = false;
          await new Promise<void>((resolve) => (this.#makeRoom = resolve));
        }
        if (!isCurrent()) return;
      }
    } catch (error) {
      this.#failure = { error };
    }
    if (!isCurrent()) return;
    if (this.#carry.bytes.length > 0) this.#push(this.#carry);
    this.#ended = true;
    this.#wake();
  }

  /** Bytes go with the characters that they make. */
  #take({ text, bytes, boundaries }: Chunk): void {
    const now = performance.now();
    this.firstByteMs ??= now - this.#asked;
    this.#arrived += bytes.length;
    if (this.#isMeasured) this.#arrivals.push({ at: now, bytes: this.#arrived });
    const all = joined(this.#carry.bytes, bytes);
    const masks = boundaries && this.#carry.masks && joined(this.#carry.masks, boundaries);
    const size = encoder.encode(text).length;
    const whole = isTextOf(text, all.subarray(0, size)) ? size : all.length;
    this.#push({ text, bytes: all.subarray(0, whole), masks: masks && masks.subarray(0, whole) });
    this.#carry = { text: '', bytes: all.subarray(whole), masks: masks && masks.subarray(whole) };
    this.#events.onProgress();
  }

  #push(piece: Piece): void {
    this.#queue.push(piece);
    this.#queued += piece.bytes.length;
    this.#wake();
  }

  async #write(slowly: () => boolean, until: number): Promise<void> {
    let shownAt = performance.now();
    while (this.#running && this.length < until) {
      const piece = this.#queue[0];
      const now = performance.now();
      if (!piece && this.#ended) break;
      if (!piece) {
        await new Promise<void>((resolve) => (this.#wake = resolve));
      } else if (!slowly()) {
        this.#show(piece, piece.text.length);
      } else if (((now - shownAt) * kReadingPace) / 1000 < 1) {
        await new Promise((resolve) => setTimeout(resolve, kBeat));
      } else {
        this.#show(piece, Math.floor((Math.min(now - shownAt, kLate) * kReadingPace) / 1000));
        shownAt = now;
      }
    }
    const isOver = this.#running && this.#ended && this.#queue.length === 0;
    this.#running = false;
    if (this.#discarded) return;
    if (isOver && this.#failure) return this.#events.onProblem(this.#failure.error);
    this.#finished ||= isOver;
    this.#events.onEnd(this.#finished ? 'finished' : 'paused');
  }

  /** The first `characters` of the queue's first piece, or all of it. */
  #show(piece: Piece, characters: number): void {
    const { text, bytes, masks } = piece;
    const [head, rest] = [text.slice(0, whole(text, characters)), text.slice(whole(text, characters))];
    const size = rest !== '' && isTextOf(text, bytes) ? encoder.encode(head).length : bytes.length;
    const shown = {
      text: size < bytes.length ? head : text,
      bytes: bytes.subarray(0, size),
      masks: masks && masks.subarray(0, size),
    };
    if (size < bytes.length)
      this.#queue[0] = { text: rest, bytes: bytes.subarray(size), masks: masks && masks.subarray(size) };
    else this.#queue.shift();
    this.#queued -= size;
    if (this.#queued < kPage) this.#makeRoom();
    this.pieces.push(shown);
    this.length += size;
    this.#events.onText(shown.text);
    this.#events.onProgress();
  }
}

/** The end of the character that `at` lies in. */
function whole(text: string, at: number): number {
  const code = text.charCodeAt(at);
  return code >= 0xdc00 && code <= 0xdfff ? at + 1 : at;
}

function isTextOf(text: string, bytes: Uint8Array): boolean {
  const expected = encoder.encode(text);
  return expected.length === bytes.length && expected.every((byte, i) => byte === bytes[i]);
}

function joined(first: Uint8Array, second: Uint8Array): Uint8Array {
  if (first.length === 0) return second;
  const both = new Uint8Array(first.length + second.length);
  both.set(first);
  both.set(second, first.length);
  return both;
}
