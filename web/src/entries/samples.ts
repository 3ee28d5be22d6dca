// Several outputs after one prompt, which is read once: ternlm/samples.
// SPDX-License-Identifier: MIT

import type { Generation } from '../api/generation.js';
import type { Model } from '../api/model.js';
import { toInteger, type GenerateOptions } from '../api/options.js';
import type { Input } from '../codec.js';

export interface SamplesOptions extends GenerateOptions {
  /** How many, 1 to 256. */
  readonly n: number;
}

const kSeeds = 1n << 64n;

/**
 * Generations of `n` sessions that share the model's weights and, until they part, what they have read. The first has the
 * seed that was given, or one chosen at random; each other the next number. Each writes what model.stream() writes with its
 * seed. They are written together, with the weights read once for up to 16 of them. Their prompt is read when this resolves.
 * TernError as of model.stream().
 */
export async function samples(model: Model, prompt: Input, { n, ...options }: SamplesOptions): Promise<Generation[]> {
  toInteger('n', n, 1, 256);
  const { control, signal, seed = crypto.getRandomValues(new Uint32Array(1))[0] ?? 0 } = options;
  const first = model.session();
  const sessions = [first];
  try {
    await first.feed(prompt, { signal, ...(control !== undefined && { control }) });
    const saved = n > 1 ? await first.save() : new Uint8Array(0);
    while (sessions.length < n) {
      const other = model.session();
      sessions.push(other);
      await other.restore(saved);
    }
    return sessions.map((session, i) => {
      const own = typeof seed === 'bigint' || i > 0 ? (BigInt(seed) + BigInt(i)) % kSeeds : seed;
      const generation = session.stream({ ...options, seed: own });
      void generation.ended.then(() => session.close());
      return generation;
    });
  } catch (error) {
    for (const session of sessions) void session.close();
    throw error;
  }
}
