// What the model writes after one beginning: read as far as the page wants it, measured, and given out at the pace of a
// reader or as it comes. What the model has read before is not read again: a take goes on in the session of the one before
// it, taken back to where their texts part.
// SPDX-License-Identifier: MIT

import type { Chunk, GenerateOptions, Generation, Model, Session } from 'ternlm';
import { isOfBytes } from './words.js';

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
  /** Those that began in it. */
  readonly tokens: number;
}

/** A session at rest, and the beginning of what it has read. */
interface Reader {
  readonly session: Session;
  readonly bytes: Uint8Array;
  /** Of a hierarchical model, for each of the bytes. */
  readonly masks: Uint8Array;
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
  /** The same in tokens of the model. */
  tokens = 0;
  readonly pieces: Piece[] = [];
  readonly #model: Model;
  readonly #events: TakeEvents;
  readonly #bytes: Uint8Array<ArrayBuffer>; // of the prompt
  #session: Session | null = null; // of a model of bytes: pieces may be cut otherwise when a text is read as a whole
  #generation: Promise<Generation>;
  #promptMasks: Promise<Uint8Array | null> = Promise.resolve(null);
  #left = false; // another take has the session
  #skip = 0; // bytes at the beginning of the generation that have arrived before
  readonly #decoder = new TextDecoder('utf-8', { ignoreBOM: true });
  #asked = 0;
  #queue: Piece[] = []; // what came and was not shown yet
  #queued = 0; // its bytes
  #carry: Piece = { text: '', bytes: kNothing, masks: kNothing, tokens: 0 }; // bytes of a character whose end has not come
  #wake = (): void => undefined; // whoever waits for a piece
  #makeRoom = (): void => undefined; // whoever waits for the queue to become shorter
  #ended = false; // nothing more will come
  #failure: { error: unknown } | null = null;
  readonly #arrived: Uint8Array[] = [];
  readonly #arrivedMasks: Uint8Array[] = [];
  #arrivedBytes = 0;
  readonly #arrivals: { at: number; bytes: number }[] = [];
  #isMeasured = true; // the engine has not had to wait yet
  #writing: Promise<void> = Promise.resolve();
  #running = false;
  #finished = false;
  #stopped = false; // before its first byte
  #discarded = false;

  /** Wrong options throw here. `before`: a take of the same model, with whose session this one goes on. */
  constructor(model: Model, prompt: string, options: GenerateOptions, events: TakeEvents, before: Take | null = null) {
    this.prompt = prompt;
    this.#bytes = encoder.encode(prompt);
    this.#model = model;
    this.#events = events;
    const checked = model.stream('', { ...options, signal: AbortSignal.abort() }); // ended before it begins
    this.seed = checked.seed;
    this.options = { ...options, seed: this.seed };
    this.#generation = this.#ask(before && isOfBytes(model) ? before.#handOver() : null);
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
    return this.#generation.then(
      () => this.#promptMasks,
      () => null,
    );
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
    if (this.#stopped || (this.#left && !this.#ended)) {
      // What has arrived comes again, since the seed is the same, and is passed over.
      this.#skip = this.#arrivedBytes;
      const reader = this.#left ? null : this.#rest();
      this.#stopped = this.#left = false;
      this.#generation = this.#ask(reader);
      void this.#read(this.#generation);
    }
    this.#running = true;
    this.#writing = this.#write(slowly, until);
    await this.#writing;
  }

  /** At once; what was read of a prompt stays read. */
  pause(): void {
    this.#running = false;
    if (this.#arrivedBytes === 0 && !this.#ended) {
      this.#stopped = true;
      void this.#end();
    }
    this.#wake();
  }

  /** Ends the work for good. */
  discard(): void {
    this.#discarded = true;
    this.#running = false;
    void this.#end().then(() => this.#session?.close());
    this.#wake();
    this.#makeRoom();
  }

  /** The generation ends where it is. */
  async #end(): Promise<void> {
    await this.#generation.then(async (generation) => generation.stop()).catch(() => undefined);
  }

  /** The session is another's; should this take go on after all, it begins anew. */
  async #handOver(): Promise<Reader | null> {
    this.#left = true;
    const reader = await this.#rest();
    this.#session = null;
    this.#makeRoom();
    return this.#discarded ? null : reader;
  }

  /** What the session has read when nothing is asked of it any more. */
  async #rest(): Promise<Reader | null> {
    await this.#end();
    const session = this.#session;
    if (!session) return null;
    const bytes = joined(this.#bytes, ...this.#arrived).subarray(0, session.position);
    const inPrompt = await this.#promptMasks.catch(() => null);
    return { session, bytes, masks: joined(inPrompt ?? kNothing, ...this.#arrivedMasks) };
  }

  async #ask(resting: Promise<Reader | null> | null): Promise<Generation> {
    const trace = { boundaries: this.#model.info.stages > 0 };
    const options = { ...this.options, maxTokens: kMostTokens, trace };
    this.#asked = performance.now();
    if (!isOfBytes(this.#model)) return this.#model.stream(this.prompt, options);
    const reader = await resting;
    const { session, bytes, masks } = reader ?? { session: this.#model.session(), bytes: kNothing, masks: kNothing };
    this.#session = session;
    const same = common(bytes, this.#bytes);
    if (same < session.position) await session.rewind(same);
    const generation = session.stream(options, this.#bytes.slice(same));
    this.#promptMasks = generation.promptBoundaries.then(
      (more) => more && joined(masks.subarray(0, same), more),
      () => null,
    );
    return generation;
  }

  /** Fills the queue, as long as it is short. */
  async #read(asked: Promise<Generation>): Promise<void> {
    const isCurrent = (): boolean => asked === this.#generation && !this.#stopped && !this.#left && !this.#discarded;
    try {
      for await (const chunk of await asked) {
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
  #take(chunk: Chunk): void {
    const now = performance.now();
    const old = Math.min(this.#skip, chunk.bytes.length);
    this.#skip -= old;
    const bytes = chunk.bytes.subarray(old);
    if (bytes.length === 0) return;
    const boundaries = chunk.boundaries?.subarray(old) ?? null;
    // What is cut may be cut inside a character.
    const text = this.#session ? this.#decoder.decode(bytes, { stream: true }) : chunk.text;
    this.firstByteMs ??= now - this.#asked;
    this.#arrived.push(bytes);
    if (boundaries) this.#arrivedMasks.push(boundaries);
    this.#arrivedBytes += bytes.length;
    if (this.#isMeasured) this.#arrivals.push({ at: now, bytes: this.#arrivedBytes });
    const all = joined(this.#carry.bytes, bytes);
    const masks = boundaries && this.#carry.masks && joined(this.#carry.masks, boundaries);
    const size = encoder.encode(text).length;
    const whole = isTextOf(text, all.subarray(0, size)) ? size : all.length;
    this.#push({
      text,
      bytes: all.subarray(0, whole),
      masks: masks && masks.subarray(0, whole),
      tokens: chunk.tokens.length,
    });
    this.#carry = { text: '', bytes: all.subarray(whole), masks: masks && masks.subarray(whole), tokens: 0 };
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
    const { text, bytes, masks, tokens } = piece;
    const [head, rest] = [text.slice(0, whole(text, characters)), text.slice(whole(text, characters))];
    const size = rest !== '' && isTextOf(text, bytes) ? encoder.encode(head).length : bytes.length;
    const shown = {
      text: size < bytes.length ? head : text,
      bytes: bytes.subarray(0, size),
      masks: masks && masks.subarray(0, size),
      tokens,
    };
    if (size < bytes.length)
      this.#queue[0] = { text: rest, bytes: bytes.subarray(size), masks: masks && masks.subarray(size), tokens: 0 };
    else this.#queue.shift();
    this.#queued -= size;
    if (this.#queued < kPage) this.#makeRoom();
    this.pieces.push(shown);
    this.length += size;
    this.tokens += tokens;
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

function joined(...parts: readonly Uint8Array[]): Uint8Array<ArrayBuffer> {
  const all = new Uint8Array(parts.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return all;
}

/** How many bytes both begin with. */
function common(one: Uint8Array, other: Uint8Array): number {
  let at = 0;
  while (at < one.length && one[at] === other[at]) at++;
  return at;
}
