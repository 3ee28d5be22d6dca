// How far a model is loaded, how fast, and for how long still.
// SPDX-License-Identifier: MIT

import type { KeptFile, Phase } from '../store/kept.js';

export interface LoadProgress {
  /**
   * Where the bytes come from at this moment: a server; what is kept of an earlier load; what load() was given; or
   * nowhere ('waiting') while another tab loads the same model, so that it is downloaded once.
   */
  readonly phase: 'download' | 'cache' | 'source' | 'waiting';
  /** Bytes of the model that the engine has. */
  readonly loaded: number;
  /** The same, as it was called first. */
  readonly received: number;
  /** Size of the whole model; null while unknown (the file's own header tells it within the first kilobytes). */
  readonly total: number | null;
  /** Bytes of the file that were kept from an earlier load. */
  readonly fromCache: number;
  /** Whether a download that had been interrupted is gone on with. */
  readonly resumed: boolean;
  /** Of the last seconds of a download; null while it is not known. */
  readonly bytesPerSecond: number | null;
  /** Until all is loaded, at that speed; null while it is not known. */
  readonly secondsLeft: number | null;
}

const kMeasureMs = 250;
const kNewest = 0.3; // its share in the speed that is told

export class Progress {
  readonly #tell: ((progress: LoadProgress) => void) | undefined;
  #phase: LoadProgress['phase'] = 'source';
  #loaded = 0;
  #total: number | null;
  #speed: number | null = null;
  #mark: { readonly time: number; readonly loaded: number } | null = null; // of a download, since when it is measured

  constructor(total: number | null, tell: ((progress: LoadProgress) => void) | undefined) {
    this.#total = total;
    this.#tell = tell;
  }

  get loaded(): number {
    return this.#loaded;
  }

  /** What is known of the size of the whole now. */
  expect(total: number | null): void {
    this.#total = total;
  }

  turnTo(phase: Phase): void {
    if (phase === this.#phase) return;
    this.#phase = phase;
    this.#mark = null;
    if (phase === 'waiting') this.report(null);
  }

  add(bytes: number): void {
    const time = performance.now();
    this.#loaded += bytes;
    if (this.#phase !== 'download') return;
    this.#mark ??= { time, loaded: this.#loaded };
    const milliseconds = time - this.#mark.time;
    if (milliseconds < kMeasureMs) return;
    const speed = (1000 * (this.#loaded - this.#mark.loaded)) / milliseconds;
    this.#speed = this.#speed === null ? speed : kNewest * speed + (1 - kNewest) * this.#speed;
    this.#mark = { time, loaded: this.#loaded };
  }

  report(kept: KeptFile | null): void {
    const [loaded, total, speed] = [this.#loaded, this.#total, this.#speed];
    this.#tell?.({
      phase: this.#phase,
      loaded,
      received: loaded,
      total,
      fromCache: kept?.fromCache ?? 0,
      resumed: kept?.resumed ?? false,
      bytesPerSecond: speed,
      secondsLeft: speed && total !== null ? Math.max(0, total - loaded) / speed : null,
    });
  }
}
