// One piece of work on one session, done in slices short enough that an abort is never far away.
// SPDX-License-Identifier: MIT

import type { EngineSession } from './engine.js';
import { unreachable, type Outcome, type ScoreSum, type Task, type Written } from './protocol.js';

/** Length of a slice: below half of the 20 ms within which an abort must take effect, since two may lie in between. */
export const kSliceMs = 8;

const kMostBytes = 1024;

/** How many bytes fit into a slice, learned from the slices before. */
export class Pace {
  #bytes: number;

  constructor(firstBytes: number) {
    this.#bytes = firstBytes;
  }

  get bytes(): number {
    return this.#bytes;
  }

  /** `bytes` took `milliseconds`. At most doubles, so one coarse clock tick cannot make the next slice very long. */
  learn(bytes: number, milliseconds: number): void {
    const fits = milliseconds > 0 ? Math.floor((bytes * kSliceMs) / milliseconds) : kMostBytes;
    this.#bytes = Math.max(1, Math.min(fits, 2 * bytes, kMostBytes));
  }
}

/** Reading and writing have different speeds: a prompt goes through the matrix kernels many bytes at a time. */
export interface Paces {
  readonly read: Pace;
  readonly write: Pace;
}

export function newPaces(): Paces {
  return { read: new Pace(16), write: new Pace(1) };
}

export class Job {
  readonly id: number;
  readonly task: Task;
  #credit: number;
  #progress = 0; // bytes read or written
  #score: ScoreSum = { bytes: 0, bits: 0, top1: 0, top5: 0 };
  readonly #masks: Uint8Array<ArrayBuffer> | null; // of what was fed, where they were asked for

  constructor(id: number, task: Task) {
    this.id = id;
    this.task = task;
    this.#credit = task.kind === 'generate' ? task.credit : 0;
    this.#masks = task.kind === 'feed' && task.boundaries ? new Uint8Array(task.bytes.length) : null;
  }

  /** A generation waits while its reader has not taken what is there already. */
  get runnable(): boolean {
    return this.task.kind !== 'generate' || this.#progress < this.#credit;
  }

  allow(credit: number): void {
    this.#credit = Math.max(this.#credit, credit);
  }

  /** Works for one slice. Null: there is more to do. */
  step(session: EngineSession, paces: Paces, emit: (written: Written) => void): Outcome | null {
    const { task } = this;
    switch (task.kind) {
      case 'reset':
        session.reset();
        return { kind: task.kind, position: session.position };
      case 'save':
        return { kind: task.kind, bytes: session.save(), position: session.position };
      case 'restore':
        session.restore(task.bytes);
        return { kind: task.kind, position: session.position };
      case 'feed':
        this.#read(task.bytes, paces.read, (bytes) => this.#feed(session, bytes));
        return this.#progress < task.bytes.length
          ? null
          : { kind: task.kind, position: session.position, boundaries: this.#masks };
      case 'score':
        this.#read(task.bytes, paces.read, (bytes) => (this.#score = add(this.#score, session.score(bytes))));
        return this.#progress < task.bytes.length
          ? null
          : { kind: task.kind, score: this.#score, position: session.position };
      case 'generate':
        if (this.#progress === 0) session.start(task.options);
        this.#write(session, task.boundaries, paces.write, emit);
        return session.finish && { kind: task.kind, finish: session.finish, position: session.position };
      default:
        return unreachable(task);
    }
  }

  #read(bytes: Uint8Array, pace: Pace, work: (bytes: Uint8Array) => void): void {
    const slice = bytes.subarray(this.#progress, this.#progress + pace.bytes);
    const start = performance.now();
    work(slice);
    if (slice.length === pace.bytes) pace.learn(slice.length, performance.now() - start);
    this.#progress += slice.length;
  }

  #feed(session: EngineSession, bytes: Uint8Array): void {
    if (this.#masks) this.#masks.set(session.feedWithBoundaries(bytes), this.#progress);
    else session.feed(bytes);
  }

  #write(session: EngineSession, traced: boolean, pace: Pace, emit: (written: Written) => void): void {
    const count = Math.min(pace.bytes, this.#credit - this.#progress);
    const start = performance.now();
    const written = traced
      ? session.generateWithBoundaries(count)
      : { bytes: session.generate(count), boundaries: null };
    const { bytes } = written;
    if (bytes.length === pace.bytes) pace.learn(bytes.length, performance.now() - start);
    this.#progress += bytes.length;
    if (bytes.length > 0) emit(written);
  }
}

function add(a: ScoreSum, b: ScoreSum): ScoreSum {
  return { bytes: a.bytes + b.bytes, bits: a.bits + b.bits, top1: a.top1 + b.top1, top5: a.top5 + b.top5 };
}
