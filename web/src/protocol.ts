// The messages between the page's half of the package and the half that owns the engine, and nothing else.
// SPDX-License-Identifier: MIT

import type { ErrorData } from './errors.js';
import type { HelperStart } from './helper.js';
import type { EngineOptions } from './options.js';
import type { Threads, ThreadsInfo } from './threads.js';

/** Which build of the engine runs: all give the same bytes; relaxed SIMD, alone or with threads, is faster where there is it. */
export type Variant = 'simd' | 'relaxed' | 'threads';

export interface EngineInfo {
  readonly variant: Variant;
  /** The kernel in use: the fastest of those that passed their known-answer tests. */
  readonly kernel: string;
  /** Why relaxed SIMD does not run; empty when it does. */
  readonly reason: string;
}

/** One form of the matrix product. All that are exact give the same numbers. */
export interface KernelReport {
  readonly name: string;
  /** Whether this machine passes its known-answer test; only then it is ever used. */
  readonly exact: boolean;
  /** Billions of weights per second in a 512 x 512 matrix; null: not measured. */
  readonly gmacPerS: number | null;
  readonly inUse: boolean;
}

/** What the kernels reach on this machine. */
export interface KernelsReport {
  /** The forms in this variant of the engine, in the order in which they would be preferred unmeasured. */
  readonly kernels: readonly KernelReport[];
  /** Many bytes at once by table lookup: its rate with 16 of them, and from how many on it is used (null: never). */
  readonly tables: { readonly gmacPerS: number | null; readonly fromBytes: number | null };
}

/** What the file says about itself, plus sizes in memory. */
export interface FileInfo {
  readonly architecture: string;
  readonly name: string;
  /** Stages of chunking in a hierarchical model; 0 for a flat one, which has no chunk boundaries. */
  readonly stages: number;
  readonly parameters: number;
  readonly fileBytes: number;
  /** Weights in memory. */
  readonly packedBytes: number;
  /** Recurrent state of one conversation, however long it gets. */
  readonly stateBytes: number;
  /** 64 bits over the whole file, as 16 hexadecimal digits. */
  readonly fingerprint: string;
  readonly config: Readonly<Record<string, string>>;
  readonly metadata: Readonly<Record<string, string>>;
}

export type Finish = 'max-bytes' | 'end-of-text' | 'stopped';

export interface ScoreSum {
  readonly bytes: number;
  readonly bits: number;
  readonly top1: number;
  readonly top5: number;
}

/** A slice of a generation. */
export interface Written {
  readonly bytes: Uint8Array<ArrayBuffer>;
  /** A boundary mask per byte, if they were asked for. */
  readonly boundaries: Uint8Array<ArrayBuffer> | null;
}

/** One piece of work on one session; pieces of the same session run in order. */
export type Task =
  | { readonly kind: 'reset' }
  | { readonly kind: 'feed'; readonly bytes: Uint8Array<ArrayBuffer>; readonly boundaries: boolean }
  | {
      readonly kind: 'generate';
      readonly options: EngineOptions;
      readonly boundaries: boolean;
      readonly credit: number;
    }
  | { readonly kind: 'score'; readonly bytes: Uint8Array<ArrayBuffer> }
  | { readonly kind: 'save' }
  | { readonly kind: 'restore'; readonly bytes: Uint8Array<ArrayBuffer> };

export type Outcome =
  | { readonly kind: 'reset' | 'restore'; readonly position: number }
  /** boundaries: a mask per byte, if they were asked for. */
  | { readonly kind: 'feed'; readonly position: number; readonly boundaries: Uint8Array<ArrayBuffer> | null }
  | { readonly kind: 'generate'; readonly position: number; readonly finish: Finish }
  | { readonly kind: 'score'; readonly position: number; readonly score: ScoreSum }
  | { readonly kind: 'save'; readonly position: number; readonly bytes: Uint8Array<ArrayBuffer> };

/** Page to engine. */
export type Request =
  | { readonly type: 'init'; readonly wasmFolder: string | null; readonly threads: Threads }
  | { readonly type: 'chunk'; readonly bytes: Uint8Array<ArrayBuffer> }
  | { readonly type: 'finish' }
  | { readonly type: 'probe' }
  | { readonly type: 'open'; readonly session: number }
  | { readonly type: 'shut'; readonly session: number }
  | { readonly type: 'run'; readonly session: number; readonly job: number; readonly task: Task }
  /** A generation may produce `credit` bytes in total before it pauses. */
  | { readonly type: 'credit'; readonly job: number; readonly credit: number }
  | { readonly type: 'abort'; readonly job: number }
  /** The answer to start-helpers; failure: why there are none, empty if all are at work. */
  | { readonly type: 'helpers'; readonly failure: string };

/** Engine to page. `hello`: the script runs; every later failure is a `failed` message. */
export type Reply =
  | { readonly type: 'hello' }
  | { readonly type: 'ready'; readonly engine: EngineInfo }
  | { readonly type: 'taken'; readonly expected: number }
  | { readonly type: 'loaded'; readonly info: FileInfo; readonly engine: EngineInfo; readonly threads: ThreadsInfo }
  | { readonly type: 'probed'; readonly report: KernelsReport; readonly engine: EngineInfo }
  /** The page shall make the workers of further threads, and later end all but the first `count`. */
  | { readonly type: 'start-helpers'; readonly starts: readonly HelperStart[] }
  | { readonly type: 'keep-helpers'; readonly count: number }
  | { readonly type: 'written'; readonly job: number; readonly written: Written }
  | { readonly type: 'done'; readonly job: number; readonly outcome: Outcome }
  | { readonly type: 'job-failed'; readonly job: number; readonly error: ErrorData }
  | { readonly type: 'failed'; readonly error: ErrorData };

export function unreachable(value: never): never {
  throw new Error(`unexpected message ${JSON.stringify(value)}`);
}
