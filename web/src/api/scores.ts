// What each token of a text costs the model, and what it expected there: pulled, so the engine pauses when nobody reads.
// SPDX-License-Identifier: MIT

import { newDecoder, type Codec, type Decoder } from '../codec.js';
import { deferred } from '../deferred.js';
import type { Scored } from '../engine/types.js';
import type { Part } from '../host/protocol.js';
import type { Request } from '../link/connection.js';
import { readerOf } from './reader.js';

export interface LikelyToken {
  readonly token: number;
  /** What it stands for; of a byte model, the byte. */
  readonly bytes: Uint8Array<ArrayBuffer>;
  /** A multiple of 2^-31. */
  readonly probability: number;
}

/** Numbers are the engine's integers, divided by a power of two: the same on every device. */
export interface TokenScore {
  readonly token: number;
  /** What it stands for; of a byte model, the byte. */
  readonly bytes: Uint8Array<ArrayBuffer>;
  /** The characters that it completes; malformed ones are U+FFFD. */
  readonly text: string;
  /** What it costs, -log2 of its probability: a multiple of 2^-32. */
  readonly bits: number;
  /** What a token costs there on average, if the model is right: in bits, a multiple of 2^-24. */
  readonly entropy: number;
  /** Tokens that the model held likelier: 0 for its first choice. */
  readonly rank: number;
  /** The most likely tokens, as many as `top` asked for, the likeliest first. */
  readonly top: readonly LikelyToken[];
}

/** Tokens that may be scored before anybody has read them. */
const kAhead = 256;

/** A sum of bits and choices over a text. */
export interface Sum {
  readonly tokens: number;
  readonly bits: number;
  readonly top1: number;
  readonly top5: number;
}

export const kNothing: Sum = { tokens: 0, bits: 0, top1: 0, top5: 0 };

export function sumOf({ tokens, costs }: Scored, before = kNothing): Sum {
  let { bits, top1, top5 } = before;
  for (let n = 0; n < tokens.length; n++) {
    const rank = costs[4 * n + 3] ?? 0;
    bits += bitsOf(costs, n);
    if (rank < 1) top1++;
    if (rank < 5) top5++;
  }
  return { tokens: before.tokens + tokens.length, bits, top1, top5 };
}

function bitsOf(costs: Uint32Array, n: number): number {
  return (costs[4 * n + 1] ?? 0) + (costs[4 * n] ?? 0) / 2 ** 32;
}

/** Sends the request, at once. */
type Ask = (credit: number, onPart: (part: Part) => void) => Request<'score'>;

/** The scores, one by one. Whoever does not read them to their end leaves, which calls the rest off. */
export function readScores(
  codec: Codec,
  ask: Ask,
): { scores: AsyncGenerator<TokenScore, void, undefined>; ended: Promise<void> } {
  const parts: Scored[] = [];
  let [before, credit, arrived, read] = [new Uint32Array(0), kAhead, 0, 0];
  let news = deferred<null>();
  let end: { failure?: unknown } | null = null;
  const announce = (): void => {
    news.resolve(null);
    news = deferred();
  };
  const request = ask(kAhead, (part) => {
    if (part.kind === 'prompt') before = part.before;
    if (part.kind !== 'scored') return;
    parts.push(part);
    arrived += part.tokens.length;
    if (arrived >= credit) request.rest();
    announce();
  });
  const ended = request.answer
    .then(
      () => void (end = {}),
      (failure: unknown) => void (end = { failure }),
    )
    .then(announce);

  async function* readAll(): AsyncGenerator<TokenScore, void, undefined> {
    let decoder: Decoder | null = null;
    for (;;) {
      const part = parts.shift();
      if (part) {
        decoder ??= newDecoder(codec, before);
        for (let n = 0; n < part.tokens.length; n++) yield toScore(codec, decoder, part, n);
        read += part.tokens.length;
        if (read + kAhead >= credit + kAhead / 2) request.allow((credit = read + kAhead));
      } else if (!end) {
        await news.promise;
      } else if ('failure' in end) {
        throw end.failure;
      } else {
        return;
      }
    }
  }
  return { scores: readerOf(readAll(), () => request.cancel()), ended };
}

function toScore(codec: Codec, decoder: Decoder, { tokens, costs, top }: Scored, n: number): TokenScore {
  const token = tokens[n] ?? 0;
  const named = top.subarray((n * top.length) / tokens.length, ((n + 1) * top.length) / tokens.length);
  return {
    token,
    ...decoder.push([token]),
    bits: bitsOf(costs, n),
    entropy: (costs[4 * n + 2] ?? 0) / 2 ** 24,
    rank: costs[4 * n + 3] ?? 0,
    top: Array.from({ length: named.length / 2 }, (_, k) => ({
      token: named[2 * k] ?? 0,
      bytes: codec.decode([named[2 * k] ?? 0]),
      probability: (named[2 * k + 1] ?? 0) / 2 ** 31,
    })),
  };
}
