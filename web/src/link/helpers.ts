// Threads beside the engine's own: the workers that are them.
// SPDX-License-Identifier: MIT

import type { HelperStart } from '../engine/types.js';
import { newHelperWorker } from './scripts.js';
import { newWorker } from './workers.js';

/**
 * The workers of threads 1, 2, ...; the engine's own is thread 0. The page makes them all: in a worker of Firefox 153
 * `new Worker` sometimes never returns while other work keeps the processors busy.
 */
export class Helpers {
  readonly #workers: Worker[];
  /** Resolves when all are at work. */
  readonly ready: Promise<void>;

  /** `folder`: where helper.js is, if moved. `onStop` hears why one of them stopped after it had started. */
  constructor(starts: readonly HelperStart[], folder: URL | null, onStop: (why: string) => void) {
    this.#workers = starts.map(() => newWorker(newHelperWorker, folder && new URL('helper.js', folder)));
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

  /** Ends all but the first `count`. */
  keep(count: number): void {
    for (const worker of this.#workers.splice(count)) worker.terminate();
  }
}
