// What a session can go back to: its tokens, and its state at distances that grow.
// SPDX-License-Identifier: MIT
//
// Going back by some tokens reads at most as many again, or kStep, while the states fit into their room: of three points
// the middle one goes as soon as the way from the first to the last is shorter than that from the last to here. So a text
// of n tokens has about 2 log2(n / kStep) points. What does not fit is given up from the beginning. Where the engine's
// state is by tokens, it is cut off itself, and no point is kept.

import type { EngineSession } from '../engine/engine.js';
import { TernError } from '../errors.js';

/** Tokens from one point to the next, and how many are read again at most to go back a little. */
export const kStep = 256;

/** A state to go on from; null: that of an empty text. */
interface Point {
  readonly position: number;
  readonly state: Uint8Array<ArrayBuffer> | null;
}

export class History {
  readonly #room: number; // for states, in bytes
  #base: Point = { position: 0, state: null };
  #points: Point[] = []; // after the base, rising
  #tokens = new Uint32Array(64); // since the base
  #count = 0;

  constructor(room: number) {
    this.#room = room;
  }

  /** Tokens until a point is due: a call that read more would have to be interrupted. */
  get untilPoint(): number {
    return this.#room > 0 ? kStep - (this.#position % kStep) : Infinity;
  }

  get #position(): number {
    return this.#base.position + this.#count;
  }

  /** The session has read these. */
  append(session: EngineSession, tokens: Uint32Array): void {
    const needed = this.#count + tokens.length;
    if (needed > this.#tokens.length) {
      const larger = new Uint32Array(Math.max(needed, 2 * this.#tokens.length));
      larger.set(this.#tokens.subarray(0, this.#count));
      this.#tokens = larger;
    }
    this.#tokens.set(tokens, this.#count);
    this.#count = needed;
    const isDue = this.#room > 0 && tokens.length > 0 && this.#position % kStep === 0;
    if (isDue) this.#add({ position: this.#position, state: session.save() });
  }

  #add(point: Point): void {
    const all = [this.#base, ...this.#points, point];
    for (let i = all.length - 3; i >= 0; i--) {
      const [first, , last] = all.slice(i, i + 3);
      if (first && last && last.position - first.position <= point.position - last.position) all.splice(i + 1, 1);
    }
    const points = all.slice(1);
    const bytes = (): number => points.reduce((sum, { state }) => sum + (state?.length ?? 0), 0);
    while (points.length > 0 && bytes() > this.#room) points.shift();
    this.#points = points;
  }

  /** The session's text begins anew, or goes on from a state. */
  begin(position = 0, state: Uint8Array<ArrayBuffer> | null = null): void {
    this.#base = { position, state };
    this.#points = [];
    this.#count = 0;
  }

  /** Brings the session near `to`; answers the tokens to read from there. */
  rewind(session: EngineSession, to: number): Uint32Array {
    const [least, most] = [this.#base.position, this.#position];
    if (to < least || to > most) {
      const restored = least > 0 ? ', where the restored session began,' : '';
      throw new TernError('bad-option', `rewind: expected a position from ${least}${restored} to ${most}, found ${to}`);
    }
    if (to === most) return new Uint32Array(0);
    if (session.truncate(to)) {
      this.#count = to - least;
      return new Uint32Array(0);
    }
    this.#points = this.#points.filter(({ position }) => position <= to);
    const { position, state } = this.#points.at(-1) ?? this.#base;
    if (state) session.restore(state);
    else session.reset();
    this.#count = position - least;
    return this.#tokens.slice(this.#count, to - least);
  }

  copy(): History {
    const copy = new History(this.#room);
    copy.#base = this.#base;
    copy.#points = [...this.#points];
    copy.#tokens = this.#tokens.slice();
    copy.#count = this.#count;
    return copy;
  }
}
