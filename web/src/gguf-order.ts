// Which weights share a byte of I2_S, as the matrices say themselves: what scripts/lm/file/public_gguf.py does.
// SPDX-License-Identifier: MIT

import { TernError } from './errors.js';

export type I2sOrder = 'x86' | 'x86-rows' | 'arm';

/** Of an order: weights of a row, or of a column, whose codes lie side by side, and what it must be possible to divide. */
export const kOrders: Record<I2sOrder, { together(cols: number): number; fits(rows: number, cols: number): boolean }> =
  {
    x86: { together: () => 32, fits: (_, cols) => cols % 128 === 0 },
    'x86-rows': { together: (cols) => cols, fits: (rows) => rows % 4 === 0 },
    arm: { together: () => 16, fits: (_, cols) => cols % 64 === 0 },
  };

const kNames = ['x86', 'x86-rows', 'arm'] as const;

export const kNormBefore: Readonly<Record<string, string>> = {
  attn_q: 'attn_norm',
  attn_k: 'attn_norm',
  attn_v: 'attn_norm',
  attn_output: 'attn_sub_norm',
  ffn_gate: 'ffn_norm',
  ffn_up: 'ffn_norm',
  ffn_down: 'ffn_sub_norm',
};

/** The codes of a matrix, and the weights of the norm before it. */
export interface Witness {
  readonly rows: number;
  readonly cols: number;
  readonly packed: Uint8Array;
  readonly norm: Float32Array;
}

/**
 * The published order where the matrices do not say. Per order the mean over matrices of z^2 (n - 3), where z is Fisher's of
 * the rank correlation between the columns' shares of zeros and the norm's weights: 1 where there is none. TernError
 * `unsupported`: more than one is likely.
 */
export function orderOf(witnesses: readonly Witness[]): I2sOrder {
  const able = witnesses.filter(({ rows, cols }) => kNames.every((name) => kOrders[name].fits(rows, cols)));
  if (able.length === 0) return 'x86';
  const ranked = kNames
    .map((name) => {
      const sum = able.reduce((all, each) => all + evidence(each, name), 0);
      return { name, mean: sum / able.length };
    })
    .sort((a, b) => b.mean - a.mean);
  const [first, second] = ranked;
  if (!first || !second || first.mean < 4) return 'x86';
  if (first.mean >= 2 * second.mean) return first.name;
  throw new TernError(
    'unsupported',
    `the I2_S matrices may be in the order ${first.name} or ${second.name} and do not say which: try one with i2sOrder of fromOtherGguf() (ternlm/gguf)`,
  );
}

function evidence({ rows, cols, packed, norm }: Witness, order: I2sOrder): number {
  const zeros = new Float64Array(cols);
  const together = kOrders[order].together(cols);
  const lines = (rows * cols) / 4 / together; // each has four runs of weights
  for (let line = 0; line < lines; line++) {
    const from = (4 * line * together) % cols;
    for (let i = 0; i < together; i++) {
      const byte = packed[line * together + i] ?? 0;
      for (let field = 0; field < 4; field++) {
        const at = from + field * together + i;
        if (((byte >> (6 - 2 * field)) & 3) === 1) zeros[at % cols] = (zeros[at % cols] ?? 0) + 1;
      }
    }
  }
  const found = correlation(ranks(zeros), ranks(Float64Array.from(norm, Math.abs)));
  return Math.atanh(Math.min(0.999, Math.max(-0.999, found))) ** 2 * (cols - 3);
}

/** Equal numbers in their order. */
function ranks(numbers: Float64Array): Float64Array {
  const order = Array.from(numbers.keys()).sort((a, b) => (numbers[a] ?? 0) - (numbers[b] ?? 0) || a - b);
  const ranks = new Float64Array(numbers.length);
  for (const [rank, at] of order.entries()) ranks[at] = rank;
  return ranks;
}

/** Of two orders of as many things. */
function correlation(a: Float64Array, b: Float64Array): number {
  const mean = (a.length - 1) / 2;
  let [together, alone] = [0, 0];
  for (const [i, x] of a.entries()) {
    together += (x - mean) * ((b[i] ?? 0) - mean);
    alone += (x - mean) ** 2;
  }
  return together / alone;
}
