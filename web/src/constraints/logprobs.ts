// How likely the model held each token of its output, and what else it might have written there.
// SPDX-License-Identifier: MIT

import type { Codec } from '../codec.js';
import type { Likelihood, TokenLogprob } from '../extras.js';

/** Of a generation, token by token. */
export class Logprobs {
  readonly #codec: Codec;
  readonly #top: number;
  #from = 0; // of the output: those before were given up
  #all: TokenLogprob[] = [];

  /** `top`: how many of the likeliest are told beside each. */
  constructor(codec: Codec, top: number) {
    this.#codec = codec;
    this.#top = top;
  }

  /** `logits`: of each token, those it was drawn from: [tokens][vocabulary], Q16.16. */
  append(tokens: Uint32Array, logits: Int32Array): void {
    const { size } = this.#codec;
    tokens.forEach((token, i) => this.#all.push(this.#of(token, logits.subarray(i * size, (i + 1) * size))));
  }

  since(place: number): TokenLogprob[] {
    return this.#all.slice(place - this.#from);
  }

  giveUpBefore(place: number): void {
    this.#all = this.since(place);
    this.#from = place;
  }

  #of(token: number, logits: Int32Array): TokenLogprob {
    const largest = logits.reduce((a, b) => Math.max(a, b), -(2 ** 31));
    const sum = logits.reduce((total, logit) => total + Math.exp((logit - largest) / 65536), 0);
    const of = (each: number): Likelihood => ({
      token: each,
      bytes: this.#codec.decode([each]),
      logprob: ((logits[each] ?? 0) - largest) / 65536 - Math.log(sum),
    });
    const order = this.#top === 0 ? [] : Array.from(logits.keys());
    order.sort((a, b) => (logits[b] ?? 0) - (logits[a] ?? 0) || a - b);
    return { ...of(token), top: order.slice(0, this.#top).map(of) };
  }
}
