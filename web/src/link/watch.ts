// Notices that a worker is not there any more although nobody has said so: terminated by hand, or by the browser.
// SPDX-License-Identifier: MIT
//
// A worker that is ended tells nobody. A Web Lock that it holds would be free again at once, but a page whose worker holds one
// is not kept for the way back (bfcache). So the worker is asked, while answers are expected of it; it answers between
// two slices of work. Times are counted in questions, not by the clock: a page that was frozen, or a machine that slept, has
// asked nothing meanwhile.

const kEveryMs = 5000;
/** So many questions without a word: longer than the longest piece of work that the engine cannot interrupt. */
const kMost = 6;

export class Watch {
  readonly #ask: () => void;
  readonly #whenGone: () => void;
  #timer: ReturnType<typeof setInterval> | null = null;
  #asked = 0; // since it was last heard of

  constructor(ask: () => void, whenGone: () => void) {
    this.#ask = ask;
    this.#whenGone = whenGone;
  }

  /** A word of it, whichever. */
  heard(): void {
    this.#asked = 0;
  }

  /** Whether answers are expected. */
  expect(expected: boolean): void {
    if (expected) {
      this.#asked = 0;
      this.#timer ??= setInterval(() => this.#look(), kEveryMs);
    } else if (this.#timer !== null) {
      clearInterval(this.#timer);
      this.#timer = null;
    }
  }

  #look(): void {
    if (this.#asked === kMost) return this.#whenGone();
    this.#asked++;
    this.#ask();
  }
}

/** How long it can be silent before it counts as gone. */
export const kSilenceMs = (kMost + 1) * kEveryMs;
