// Threads beside the engine's own: whether this page may have them, and the workers that are them.
// SPDX-License-Identifier: MIT

import { TernError } from './errors.js';
import type { HelperStart } from './helper.js';

/** How many threads to compute with. 'auto': as many as make the loaded model faster. */
export type Threads = number | 'auto';

export interface ThreadsInfo {
  /** Threads that compute, the engine's own among them. */
  readonly count: number;
  /** Why it is one although more were asked for, or that 'auto' measured it; empty for a number that was asked for. */
  readonly reason: string;
}

export const kMostThreads = 64; // kMaxThreads in cpp/base/parallel.h
const kMostAutomatic = 8; // beyond, memory is the limit, and small models stop gaining earlier

export function toThreads(value: unknown): Threads {
  if (value === 'auto') return value;
  if (typeof value === 'number' && Number.isInteger(value) && value >= 1 && value <= kMostThreads) return value;
  const found = typeof value === 'string' ? JSON.stringify(value) : String(value);
  throw new TernError(
    'bad-option',
    `threads must be 'auto' or a whole number from 1 to ${kMostThreads}, found ${found}`,
  );
}

/** How many there can be at most. */
export function mostThreads(wanted: Threads): number {
  return wanted === 'auto' ? Math.min(navigator.hardwareConcurrency, kMostAutomatic) : wanted;
}

/** Empty when more than one thread may be tried. */
export function whyNotThreads(wanted: Threads): string {
  if (wanted === 1) return '';
  if (typeof document !== 'undefined')
    return 'the engine runs on the page’s own thread, which must not wait for others';
  if (typeof Worker === 'undefined') return 'there are no workers here';
  if (!globalThis.crossOriginIsolated || typeof SharedArrayBuffer === 'undefined') {
    return (
      'the page is not cross-origin isolated: that takes the response headers Cross-Origin-Opener-Policy: same-origin ' +
      'and Cross-Origin-Embedder-Policy: require-corp'
    );
  }
  return mostThreads(wanted) > 1 ? '' : 'this machine has one processor';
}

const kInitialPages = 64; // INITIAL_MEMORY in cpp/bindings/CMakeLists.txt
const kMostPages = [32768, 16384, 8192, 4096]; // of 64 KiB; some devices set aside all of it at once

/** Grows with the model. The engine alone looks at it from JavaScript, so that growth slows nobody's views. */
export function sharedMemory(): WebAssembly.Memory {
  let failure: unknown;
  for (const maximum of kMostPages) {
    try {
      return new WebAssembly.Memory({ initial: kInitialPages, maximum, shared: true });
    } catch (error) {
      failure = error;
    }
  }
  throw failure;
}

/** What the engine needs of its helpers: to end all but the first `count`. */
export interface HelperPool {
  keep(count: number): void;
}

/** Resolves when all are at work; rejects if one cannot start, and then none stays. */
export type StartHelpers = (starts: readonly HelperStart[]) => Promise<HelperPool>;

/**
 * The workers of threads 1, 2, ...; the engine's own is thread 0. The page makes them all: in a worker of Firefox 153
 * `new Worker` sometimes never returns while other work keeps the processors busy.
 */
export class Helpers implements HelperPool {
  readonly #workers: Worker[];
  /** Resolves when all are at work. */
  readonly ready: Promise<void>;

  /** `folder`: where helper.js is, if moved. `onStop` hears why one of them stopped after it had started. */
  constructor(starts: readonly HelperStart[], folder: URL | null, onStop: (why: string) => void) {
    this.#workers = starts.map(() =>
      folder === null
        ? new Worker(new URL('./helper.js', import.meta.url), { type: 'module' }) // literal: bundlers look for this form
        : new Worker(new URL('helper.js', folder), { type: 'module' }),
    );
    const started = this.#workers.map(
      (worker, i) =>
        new Promise<void>((resolve, reject) => {
          let isReady = false;
          worker.addEventListener('message', () => {
            isReady = true;
            resolve();
          });
          worker.addEventListener('error', (event) => {
            event.preventDefault(); // reported where it is known what was asked for
            const why = event.message || 'its script could not be loaded';
            if (isReady) onStop(why);
            else reject(new Error(why));
          });
          worker.postMessage(starts[i]);
        }),
    );
    this.ready = Promise.all(started).then(() => undefined);
  }

  keep(count: number): void {
    for (const worker of this.#workers.splice(count)) worker.terminate();
  }
}
