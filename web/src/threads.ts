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
  // On a busy machine about every third page stopped there, all its workers asleep; never in Chromium.
  if (/Firefox\//.test(navigator.userAgent))
    return 'threads are not reliable in Firefox yet: some pages waited forever';
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

/** The workers of threads 1, 2, ...; the engine's own is thread 0. */
export class Helpers {
  readonly #workers: Worker[];

  private constructor(workers: Worker[]) {
    this.#workers = workers;
  }

  /** Resolves when all are at work; if one cannot start, none stays. */
  static async start(starts: readonly HelperStart[]): Promise<Helpers> {
    const workers: Worker[] = [];
    try {
      await Promise.all(
        starts.map((start) => {
          // Literal, so that bundlers find the script. Another one than the engine's: they refuse workers in circles.
          const worker = new Worker(new URL('./helper.js', import.meta.url), { type: 'module' });
          workers.push(worker);
          return new Promise<void>((resolve, reject) => {
            worker.addEventListener('message', () => resolve(), { once: true });
            worker.addEventListener('error', (event) => {
              event.preventDefault(); // reported where it is known what was asked for
              reject(new Error(event.message || 'its script could not be loaded'));
            });
            worker.postMessage(start);
          });
        }),
      );
    } catch (error) {
      for (const worker of workers) worker.terminate();
      throw error;
    }
    return new Helpers(workers);
  }

  /** Ends all but the first `count`. */
  keep(count: number): void {
    for (const worker of this.#workers.splice(count)) worker.terminate();
  }
}
