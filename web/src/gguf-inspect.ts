// What is in a GGUF file, ours or of others: its keys, its tensors, and how many weights are -1, 0 and +1.
// SPDX-License-Identifier: MIT

import { kI2S, kTq1, kTq2 } from './gguf-numbers.js';
import { arriving, Input, readHeader, type Keys, type Tensor } from './gguf-header.js';

export interface GgufTensor {
  readonly name: string;
  /** The length of a row first, as the file has it: rows of ours are filled up to multiples of 256 with zeros. */
  readonly shape: readonly number[];
  /** ggml's name, ours from SF3 to SF16, or `type N` where it is neither. */
  readonly type: string;
  /** Up to the tensor behind it, so with what fills it up; of the last one, the bytes that it needs. */
  readonly bytes: number;
}

/** Weights of a ternary tensor by their value. */
export interface TernaryShares {
  readonly name: string;
  readonly minus: number;
  readonly zero: number;
  readonly plus: number;
}

export interface GgufFile {
  readonly keys: Keys;
  /** In the order of their data. */
  readonly tensors: readonly GgufTensor[];
  /** Reads on through the file, in pieces that leave others the thread; each ternary tensor as soon as it was read. */
  readonly shares: AsyncGenerator<TernaryShares, void, undefined>;
}

/** [name, numbers of a block, bytes of a block] by ggml's number. */
const kTypes: Readonly<Record<number, readonly [name: string, block: number, bytes: number]>> = {
  0: ['F32', 1, 4],
  1: ['F16', 1, 2],
  2: ['Q4_0', 32, 18],
  3: ['Q4_1', 32, 20],
  6: ['Q5_0', 32, 22],
  7: ['Q5_1', 32, 24],
  8: ['Q8_0', 32, 34],
  9: ['Q8_1', 32, 36],
  10: ['Q2_K', 256, 84],
  11: ['Q3_K', 256, 110],
  12: ['Q4_K', 256, 144],
  13: ['Q5_K', 256, 176],
  14: ['Q6_K', 256, 210],
  15: ['Q8_K', 256, 292],
  20: ['IQ4_NL', 32, 18],
  23: ['IQ4_XS', 256, 136],
  24: ['I8', 1, 1],
  25: ['I16', 1, 2],
  26: ['I32', 1, 4],
  28: ['F64', 1, 8],
  30: ['BF16', 1, 2],
  [kTq1]: ['TQ1_0', 256, 54],
  [kTq2]: ['TQ2_0', 256, 66],
  [kI2S]: ['I2_S', 4, 1],
};

/**
 * Reads the beginning of a file, and the rest as far as `shares` is read; who does not read it ends the stream with
 * `shares.return()`. Fails with a TernError: `unsupported` for what is no GGUF, `incomplete` where it ends early.
 */
export async function readGguf(source: ReadableStream<Uint8Array>): Promise<GgufFile> {
  const reader = source.getReader();
  const input = new Input(arriving(reader));
  const { keys, tensors, dataStart } = await readHeader(input);
  const described = tensors.map((tensor, i): GgufTensor => {
    const next = tensors[i + 1];
    return {
      name: tensor.name,
      shape: tensor.shape,
      type: nameOf(tensor.type),
      bytes: next ? next.at - tensor.at : sizeOf(tensor),
    };
  });
  async function* shares(): AsyncGenerator<TernaryShares, void, undefined> {
    try {
      for (const tensor of tensors) {
        const counting = kCounting.get(tensor.type);
        if (!counting) continue;
        await input.skipTo(dataStart + tensor.at);
        yield { name: tensor.name, ...(await counting(input, tensor.rows * tensor.cols)) };
      }
    } finally {
      await reader.cancel().catch(() => undefined);
    }
  }
  return { keys, tensors: described, shares: shares() };
}

function nameOf(type: number): string {
  const bits = type - 1000;
  return kTypes[type]?.[0] ?? (bits >= 3 && bits <= 16 ? `SF${bits}` : `type ${type}`);
}

function sizeOf({ type, rows, cols }: Tensor): number {
  const [, block, bytes] = kTypes[type] ?? ['', 8, type - 1000]; // SuperFloats lie behind each other, bit by bit
  return rows * Math.ceil((cols * bytes) / block);
}

type Counts = Omit<TernaryShares, 'name'>;

/** How many of the digits that a byte of each kind holds are 0, 1 and 2: three counts for each of 256 bytes. */
function digitsOf(count: number, digit: (byte: number, at: number) => number): Uint8Array {
  const counts = new Uint8Array(3 * 256);
  for (let byte = 0; byte < 256; byte++) {
    for (let at = 0; at < count; at++) {
      const place = 3 * byte + Math.min(2, digit(byte, at)); // a code of 3 is refused by whoever computes with it
      counts[place] = (counts[place] ?? 0) + 1;
    }
  }
  return counts;
}

const kPairs = digitsOf(4, (byte, at) => (byte >> (2 * at)) & 3);
const kDigit = (byte: number, at: number): number => (((byte * 3 ** at) & 255) * 3) >> 8;
const kFives = digitsOf(5, kDigit);
const kFours = digitsOf(4, kDigit);

const kPieces = 1 << 18; // bytes counted before others have the thread

/** Of types that hold 256 weights a block, behind which is its scale; `parts`: from which byte on which digits are. */
function inBlocks(blockBytes: number, parts: readonly (readonly [to: number, digits: Uint8Array])[]) {
  return async (input: Input, weights: number): Promise<Counts> => {
    const sums = [0, 0, 0];
    let left = Math.ceil(weights / 256);
    while (left > 0) {
      const blocks = Math.min(left, Math.floor(kPieces / blockBytes));
      const bytes = await input.take(blocks * blockBytes);
      for (let at = 0; at < bytes.length; at += blockBytes) addBlock(sums, bytes.subarray(at, at + blockBytes), parts);
      left -= blocks;
      await pause();
    }
    return countsOf(sums);
  };
}

function addBlock(
  sums: number[],
  block: Uint8Array,
  parts: readonly (readonly [to: number, digits: Uint8Array])[],
): void {
  const isZero = block.at(-2) === 0 && ((block.at(-1) ?? 0) & 0x7f) === 0;
  if (isZero) return void (sums[1] = (sums[1] ?? 0) + 256); // whatever its codes are
  let at = 0;
  for (const [to, digits] of parts) {
    for (; at < to; at++) add(sums, digits, block[at] ?? 0);
  }
}

/** The scale of the matrix is behind it. */
async function inFlatPairs(input: Input, weights: number): Promise<Counts> {
  const sums = [0, 0, 0];
  for (let left = weights / 4; left > 0;) {
    const bytes = await input.take(Math.min(left, kPieces));
    for (const byte of bytes) add(sums, kPairs, byte);
    left -= bytes.length;
    await pause();
  }
  return countsOf(sums);
}

function add(sums: number[], digits: Uint8Array, byte: number): void {
  for (let digit = 0; digit < 3; digit++) sums[digit] = (sums[digit] ?? 0) + (digits[3 * byte + digit] ?? 0);
}

function countsOf([minus = 0, zero = 0, plus = 0]: readonly number[]): Counts {
  return { minus, zero, plus };
}

const pause = async (): Promise<void> => new Promise((resolve) => setTimeout(resolve));

const kCounting = new Map<number, (input: Input, weights: number) => Promise<Counts>>([
  [
    kTq1,
    inBlocks(54, [
      [48, kFives],
      [52, kFours],
    ]),
  ],
  [kTq2, inBlocks(66, [[64, kPairs]])],
  [kI2S, inFlatPairs],
]);
