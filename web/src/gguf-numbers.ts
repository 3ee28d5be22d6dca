// Numbers of ggml's types, and int8 rows, with the arithmetic of scripts/lm/file: the same bits.
// SPDX-License-Identifier: MIT

import { TernError } from './errors.js';

export const kF32 = 0;
export const kTq1 = 34;
export const kTq2 = 35;
export const kI2S = 36;
export const kTernary: readonly number[] = [kTq1, kTq2, kI2S];

/** Bytes of a block of so many numbers. */
interface Packing {
  readonly block: number;
  readonly bytes: number;
}

const kPackings = new Map<number, Packing>([
  [kF32, { block: 1, bytes: 4 }],
  [1, { block: 1, bytes: 2 }], // F16
  [8, { block: 32, bytes: 34 }], // Q8_0
  [14, { block: 256, bytes: 210 }], // Q6_K
  [30, { block: 1, bytes: 2 }], // BF16
  [kTq1, { block: 256, bytes: 54 }],
  [kTq2, { block: 256, bytes: 66 }],
]);

export function typeOf(type: number, name: string): Packing {
  const packing = kPackings.get(type);
  if (packing) return packing;
  throw new TernError(
    'unsupported',
    `${name} is of type ${type}; expected F32, F16, BF16, Q8_0, Q6_K, TQ1_0, TQ2_0 or I2_S: convert it with scripts/convert.py`,
  );
}

/** float32, of which every step is rounded as float32 is. */
export function floatsOf(type: number, raw: Uint8Array, count: number, name: string): Float32Array<ArrayBuffer> {
  const out = new Float32Array(count);
  const view = new DataView(raw.buffer, raw.byteOffset, raw.length);
  switch (type) {
    case kF32:
      for (let i = 0; i < count; i++) out[i] = view.getFloat32(4 * i, true);
      break;
    case 1:
      for (let i = 0; i < count; i++) out[i] = fromHalf(view.getUint16(2 * i, true));
      break;
    case 30:
      new Uint32Array(out.buffer).set(Array.from({ length: count }, (_, i) => view.getUint16(2 * i, true) * 0x10000));
      break;
    case 8:
      for (let at = 0, i = 0; i < count; at += 34) {
        const scale = fromHalf(view.getUint16(at, true));
        for (let j = 0; j < 32; j++) out[i++] = scale * view.getInt8(at + 2 + j);
      }
      break;
    case 14:
      for (let block = 0; block < count / 256; block++) sixBits(view, 210 * block, out.subarray(256 * block));
      break;
    default:
      throw new TernError('unsupported', `${name} is of type ${type}, which is not read here`);
  }
  if (out.every(Number.isFinite)) return out;
  throw new TernError('bad-file', `${name}: expected finite numbers, found NaN or infinity`);
}

/** Q6_K: 128 bytes of low halves, 64 of high pairs, 16 scales, and the scale of those. */
function sixBits(view: DataView, at: number, out: Float32Array): void {
  const whole = fromHalf(view.getUint16(at + 208, true));
  for (let i = 0; i < 256; i++) {
    const [half, inside] = [i >> 7, i & 127];
    const low = view.getUint8(at + 64 * half + (inside & 63)) >> (inside < 64 ? 0 : 4);
    const high = view.getUint8(at + 128 + 32 * half + (inside & 31)) >> (2 * (inside >> 5));
    const scale = Math.fround(whole * view.getInt8(at + 192 + (i >> 4)));
    out[i] = scale * (((low & 15) | ((high & 3) << 4)) - 32);
  }
}

export function fromHalf(bits: number): number {
  const [exponent, fraction] = [(bits >> 10) & 31, bits & 1023];
  const size =
    exponent === 31
      ? fraction
        ? NaN
        : Infinity
      : exponent === 0
        ? fraction * 2 ** -24
        : (1024 + fraction) * 2 ** (exponent - 25);
  return bits & 0x8000 ? -size : size;
}

/** The nearest float16 of a scale, ties to even. TernError: negative, not finite, or not near one (as in convert.py). */
export function halfOf(scale: number, name: string): number {
  if (!(scale >= 0) || scale === Infinity) {
    throw new TernError('bad-file', `the scale of ${name} is ${scale}; expected a finite number of 0 or more`);
  }
  if (scale < 2 ** -60) return 0;
  const exponent = Math.max(Math.floor(Math.log2(scale)), -14);
  const bits = (exponent + 14) * 1024 + halfEven(scale / 2 ** (exponent - 10));
  const error = bits >= 0x7c00 ? Infinity : Math.abs(fromHalf(bits) - scale) / scale;
  if (error <= 2 ** -9) return bits;
  throw new TernError('unsupported', `the scale ${scale} of ${name} is no fp16 number, and a file has no other`);
}

function halfEven(x: number): number {
  const below = Math.floor(x);
  const rest = x - below;
  return below + Number(rest > 0.5 || (rest === 0.5 && below % 2 === 1));
}

const kFloor = Math.fround(1e-5);

/** Codes of -127 to 127 of a row; answers its scale. */
export function toCodes(numbers: Float32Array, codes: Int8Array, name: string): number {
  let largest = kFloor;
  for (const x of numbers) largest = Math.max(largest, Math.abs(x));
  const scale = Math.fround(largest / 127);
  if (!(scale > 0)) throw new TernError('bad-file', `${name}: a row without a scale`);
  for (let i = 0; i < codes.length; i++) {
    const ratio = Math.fround((numbers[i] ?? 0) / scale);
    const size = Math.min(halfEven(Math.abs(ratio)), 127);
    codes[i] = ratio < 0 ? -size : size;
  }
  return scale;
}
