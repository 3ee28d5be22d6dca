// Work on one session, done in slices short enough that an abort is never far away.
// SPDX-License-Identifier: MIT

import { deferred } from '../deferred.js';
import { EngineSession, kTileTokens } from '../engine/engine.js';
import { TernError } from '../errors.js';
import type { History } from './history.js';
import { unreachable, type Answer, type CallOf, type Part, type Work } from './protocol.js';

/** Length of a slice: below half of the 20 ms within which an abort must take effect, since two may lie in between. */
export const kSliceMs = 8;

const kMostTokens = 1024;
const kMostNamed = 64; // where each token comes with up to 256 others

const kFirstBudget = 2 ** 21;
const kMostBudget = 2 ** 40;

/** How many multiply-adds fit into a slice, learned from the slices before; the engine stops in the middle of a step. */
export class Pace {
  #budget = kFirstBudget;

  get budget(): number {
    return this.#budget;
  }

  /** What a slice begins with: how much the kernels do in a second, where that was measured. */
  expect(macsPerS: number): void {
    const fits = Math.floor((macsPerS * kSliceMs) / 1000 / 2); // a model does more than products
    this.#budget = Math.max(kFirstBudget, Math.min(fits, kMostBudget));
  }

  /** The budget took `milliseconds`. At most doubles, so one coarse clock tick cannot make the next slice very long. */
  learn(milliseconds: number): void {
    const fits = milliseconds > 0 ? Math.floor((this.#budget * kSliceMs) / milliseconds) : kMostBudget;
    this.#budget = Math.max(kFirstBudget / 8, Math.min(fits, 2 * this.#budget, kMostBudget));
  }
}

/** Reading and writing have different speeds: a prompt goes through the matrix kernels many tokens at a time. */
export interface Paces {
  readonly read: Pace;
  readonly write: Pace;
  /** Several that write together, with the weights read once for all. */
  readonly together: Pace;
}

export function newPaces(): Paces {
  return { read: new Pace(), write: new Pace(), together: new Pace() };
}

/** How a job ended, and how long the session's text was then. */
export type Outcome = { readonly position: number | null } & (
  { readonly answer: Answer } | { readonly error: TernError }
);

/** A conversation, as those who work on it have it. */
export interface Seat {
  readonly session: EngineSession;
  /** Of a session that can go back. */
  readonly history: History | null;
}

/** A job whose turn it is, and where. */
export interface Member {
  readonly job: Job;
  readonly seat: Seat;
}

export class Job {
  readonly #work: Work;
  readonly #emit: (part: Part) => void;
  readonly #end = deferred<Outcome>();
  readonly #fork: (from: Seat, to: number) => void;
  #input: Uint32Array; // to read
  readonly #masks: Uint8Array<ArrayBuffer> | null; // of what was read, where they were asked for
  #read = 0;
  #written = 0;
  #found: Uint32Array<ArrayBuffer> | null = null; // by decoding
  #started = false; // writing, or scoring
  #rules: Uint32Array | null = null;
  #credit: number;
  #most = { read: kMostTokens, write: kMostTokens }; // in a slice

  constructor(work: Work, emit: (part: Part) => void, fork: (from: Seat, to: number) => void) {
    this.#work = work;
    this.#fork = fork;
    this.#emit = emit;
    this.#input =
      (work.kind === 'generate' ? work.prompt : 'tokens' in work ? work.tokens : null) ?? new Uint32Array(0);
    this.#masks = 'traced' in work && work.traced ? new Uint8Array(this.#input.length) : null;
    this.#credit = 'credit' in work ? work.credit : 0;
    this.#written = work.kind === 'generate' ? work.drawn.length : 0;
  }

  get outcome(): Promise<Outcome> {
    return this.#end.promise;
  }

  /** Work with a reader waits while that has not taken what is there already, or nothing is allowed. */
  get runnable(): boolean {
    const done = this.#work.kind === 'score' ? this.#read : this.#written;
    return !('credit' in this.#work) || done < this.#credit;
  }

  /** `rules`: a table of ternlm/constraints, before anything else was allowed. */
  allow(credit: number, rules?: Uint32Array | null): void {
    this.#credit = credit;
    this.#rules = rules ?? this.#rules;
  }

  /**
   * Works for one slice. True: that was the last. `isLast`: others wait for the engine, so what is begun is brought to an
   * end, and nothing begins after it.
   */
  step(seat: Seat, paces: Paces, isLast: boolean): boolean {
    const most = Math.min(kMostTokens, seat.history?.untilPoint ?? Infinity);
    this.#most = isLast ? { read: Math.min(kTileTokens, most), write: 1 } : { read: most, write: most };
    const answer = this.#step(seat, paces);
    if (answer) this.#end.resolve({ position: seat.session.position, answer });
    return answer !== null;
  }

  /** Whether it writes, and of nothing but tokens is told: then several do so together. */
  get joins(): boolean {
    const work = this.#work;
    return work.kind === 'generate' && this.#started && !work.traced && work.logits === 0;
  }

  /** step() of several that join, at most kTileTokens: of each whether that was its last. */
  static stepTogether(members: readonly Member[], { together }: Paces, isLast: boolean): boolean[] {
    const most = members.map(({ job, seat }) => Math.min(job.#left, seat.history?.untilPoint ?? Infinity));
    const count = isLast || members.some(({ job }) => job.#turnEnd !== null) ? 1 : Math.min(kMostTokens, ...most);
    const sessions = members.map(({ seat }) => seat.session);
    const start = performance.now();
    const written = EngineSession.generateEach(sessions, count, together.budget);
    if (sessions.some(({ finish }, i) => !finish && (written[i]?.length ?? 0) < count)) {
      together.learn(performance.now() - start);
    }
    return members.map(({ job, seat }, i) => job.#wrote(seat, written[i] ?? new Uint32Array(0), count));
  }

  #wrote({ session, history }: Seat, tokens: Uint32Array<ArrayBuffer>, count: number): boolean {
    const { finish, position } = session;
    this.#written += tokens.length;
    try {
      if (!finish) session.refuseIfFull(tokens.length, count);
      history?.append(session, tokens);
    } catch (error) {
      this.fail(TernError.from(error, 'engine-failed'), position);
      return true;
    }
    const isOver = tokens.length > 0 && tokens[0] === this.#turnEnd;
    if (tokens.length > 0) this.#emit({ kind: 'written', written: { tokens, boundaries: null } }); // gives them away
    const end = isOver ? 'end-of-text' : finish;
    if (end) this.#end.resolve({ position, answer: { kind: 'generate', finish: end } });
    return end !== null;
  }

  /** A generation that is called off says what it has come to; of other work nothing is left to tell. */
  cancel(position: number): void {
    if (this.#work.kind !== 'generate') return this.fail(new TernError('closed', 'the work was called off'), position);
    this.#end.resolve({ position, answer: { kind: 'generate', finish: 'stopped' } });
  }

  fail(error: TernError, position: number | null): void {
    this.#end.resolve({ position, error });
  }

  #step(seat: Seat, paces: Paces): Answer | null {
    const { session, history } = seat;
    const work = this.#work;
    switch (work.kind) {
      case 'reset':
        session.reset();
        history?.begin();
        return { kind: work.kind };
      case 'save':
        return { kind: work.kind, bytes: session.save() };
      case 'restore':
        session.restore(work.bytes);
        history?.begin(session.position, work.bytes);
        return { kind: work.kind };
      case 'fork':
        this.#fork(seat, work.to);
        return { kind: work.kind };
      case 'rewind':
        if (!this.#started) {
          this.#input = history?.rewind(session, work.to) ?? this.#input;
          this.#started = true;
          return null; // how much may be read now depends on where it begins
        }
        return this.#feed(seat, paces.read) ? { kind: work.kind } : null;
      case 'next':
        return { kind: work.kind, logits: session.logits(work.vocabulary) };
      case 'feed':
        return this.#feed(seat, paces.read) ? { kind: work.kind, boundaries: this.#masks } : null;
      case 'score':
        if (!this.#started) this.#emit({ kind: 'prompt', before: session.recent(3), boundaries: null });
        this.#started = true;
        this.#most.read = Math.min(this.#most.read, this.#credit - this.#read, work.top > 0 ? kMostNamed : Infinity);
        this.#slice(seat, paces.read, (tokens, budget) => {
          const scored = session.score(tokens, work.top, budget);
          const { length } = scored.tokens; // which are given away
          if (length > 0) this.#emit({ kind: 'scored', ...scored });
          return length;
        });
        return this.#allRead ? { kind: work.kind } : null;
      case 'encode':
        this.#slice(seat, paces.read, (tokens, budget) => session.encode(tokens, budget));
        return this.#allRead ? { kind: work.kind, bytes: session.encoded() } : null;
      case 'decode':
        return this.#decode(session, work, paces.write);
      case 'generate':
        if (!this.#started) {
          if (!this.#feed(seat, paces.read)) return null;
          const boundaries = work.prompt ? this.#masks : null;
          this.#emit({ kind: 'prompt', before: session.recent(3), boundaries });
          session.start(work.sampling, work.maxTokens, this.#rules ?? undefined, work.drawn);
          this.#started = true;
          return null;
        }
        if (this.#write(seat, work, paces.write)) return { kind: work.kind, finish: 'end-of-text' };
        return session.finish && { kind: work.kind, finish: session.finish };
      default:
        return unreachable(work);
    }
  }

  /** Tokens that may be written. */
  get #left(): number {
    return this.#credit - this.#written;
  }

  /** A token that ends what is written: where there is one, tokens are written one by one. */
  get #turnEnd(): number | null {
    return this.#work.kind === 'generate' ? this.#work.turnEnd : null;
  }

  get #allRead(): boolean {
    return this.#read === this.#input.length;
  }

  /** Reads the next slice; true when that was all. */
  #feed(seat: Seat, pace: Pace): boolean {
    this.#slice(seat, pace, (tokens, budget) => {
      const masks = seat.session.feedWithBoundaries(tokens, budget);
      this.#masks?.set(masks, this.#read);
      return masks.length;
    });
    return this.#allRead;
  }

  /** `work` answers how many of the tokens it did. */
  #slice({ session, history }: Seat, pace: Pace, work: (tokens: Uint32Array, budget: number) => number): void {
    const slice = this.#input.subarray(this.#read, this.#read + this.#most.read);
    if (slice.length === 0) return;
    const start = performance.now();
    const done = work(slice, pace.budget);
    if (done < slice.length) pace.learn(performance.now() - start);
    this.#read += done;
    history?.append(session, slice.subarray(0, done));
  }

  #decode(session: EngineSession, { kind, bytes, count }: CallOf<'decode'>, pace: Pace): Answer | null {
    this.#found ??= new Uint32Array(count);
    if (!this.#started) session.startDecoding(bytes);
    this.#started = true;
    const most = Math.min(this.#most.write, count - this.#written);
    const start = performance.now();
    const tokens = session.decode(most, pace.budget);
    if (tokens.length < most) pace.learn(performance.now() - start);
    this.#found.set(tokens, this.#written);
    this.#written += tokens.length;
    return this.#written < count ? null : { kind, tokens: this.#found };
  }

  /** True: that was the end of a turn. Where there are turns, tokens are written one by one. */
  #write({ session, history }: Seat, { traced, turnEnd, logits: size }: CallOf<'generate'>, pace: Pace): boolean {
    const count = size > 0 || turnEnd !== null ? 1 : Math.min(this.#most.write, this.#left);
    const start = performance.now();
    const logits = size > 0 ? session.logits(size) : null;
    const written = session.generate(count, traced, pace.budget);
    const { length } = written.tokens;
    if (length < count && !session.finish) pace.learn(performance.now() - start);
    this.#written += length;
    history?.append(session, written.tokens);
    const isOver = length > 0 && written.tokens[0] === turnEnd;
    if (length > 0) this.#emit({ kind: 'written', written: { ...written, logits } }); // which gives them away
    return isOver;
  }
}
