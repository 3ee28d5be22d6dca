// Data as the choices of a model, in a container that says which model: an entry of its own, ternlm/compress.
// SPDX-License-Identifier: MIT
//
// models/FORMAT.md describes the container; `tern compress` writes and reads the same. The same data becomes the same
// bytes whatever the pieces in which it comes, since it is coded in blocks of kBlock bytes.

import type { Codec, Decoder, Reading } from './codec.js';
import { TernError } from './errors.js';

export type Bytes = Uint8Array<ArrayBuffer>;

export type { Codec, Decoder, Reading };

/** What codes: a text of a model that begins with the first call. */
export interface Coding {
  readonly codec: Codec;
  /** Of the model's file, 16 hexadecimal digits. */
  readonly fingerprint: string;
  encode(tokens: Uint32Array<ArrayBuffer>): Promise<Bytes>;
  decode(code: Bytes, count: number): Promise<Uint32Array>;
}

/** "TNC", and the version. */
const kMagic = [0x54, 0x4e, 0x43, 1];
const kBlock = 1 << 15;
const kMostCode = 4 * kBlock + 8; // of a block: a token takes 32 bits at most

/** The data, piece by piece, as a container. */
export async function* compressing(coding: Coding, data: AsyncIterable<Uint8Array>): AsyncGenerator<Bytes, void> {
  const sum = new Checksum();
  const tokensOf = losslessly(coding.codec);
  const encode = async (block: Bytes): Promise<Bytes> => {
    sum.push(block);
    const tokens = tokensOf(block);
    const count = tokens.length; // they are given away
    const code = await coding.encode(tokens);
    return Uint8Array.of(...varint(count), ...varint(code.length), ...code);
  };
  yield Uint8Array.of(...kMagic, ...littleEndian(BigInt(`0x${coding.fingerprint}`), 8));
  const block = new Uint8Array(kBlock);
  let filled = 0;
  for await (const piece of data) {
    for (let at = 0; at < piece.length;) {
      const part = piece.subarray(at, at + kBlock - filled);
      block.set(part, filled);
      [at, filled] = [at + part.length, filled + part.length];
      if (filled < kBlock) continue;
      yield await encode(block);
      filled = 0;
    }
  }
  if (filled > 0) yield await encode(block.slice(0, filled));
  yield Uint8Array.of(0, ...varint(sum.length), ...littleEndian(BigInt(sum.value), 4));
}

/**
 * A container, piece by piece, as the data. TernError: 'bad-file' for what is no container, 'wrong-model' for one of
 * another model, 'incomplete' for one that ends early, 'integrity' for one that is damaged: what was given before is then not
 * to be trusted.
 */
export async function* decompressing(coding: Coding, data: AsyncIterable<Uint8Array>): AsyncGenerator<Bytes, void> {
  const input = new Input(data[Symbol.asyncIterator]());
  const head = await input.take(4);
  if (head.some((byte, i) => byte !== kMagic[i])) {
    const found = Array.from(head, (byte) => byte.toString(16).padStart(2, '0')).join(' ');
    throw new TernError('bad-file', `expected compressed data, which begins with 54 4e 43 01, found ${found}`);
  }
  const fingerprint = (await input.number(8)).toString(16).padStart(16, '0');
  if (fingerprint !== coding.fingerprint) {
    throw new TernError(
      'wrong-model',
      `expected data compressed by the model ${coding.fingerprint}, found that of ${fingerprint}: load that model`,
    );
  }
  const sum = new Checksum();
  for (;;) {
    const count = await input.varint();
    if (count === 0) break;
    const size = await input.varint();
    if (count > kBlock || size > kMostCode) throw damaged();
    const block = coding.codec.decode(await coding.decode(await input.take(size), count));
    if (block.length > kBlock) throw damaged();
    sum.push(block);
    yield block;
  }
  if ((await input.varint()) !== sum.length || (await input.number(4)) !== BigInt(sum.value)) throw damaged();
  if (await input.goesOn()) throw new TernError('bad-file', 'expected the end of the compressed data, found more');
}

function damaged(): TernError {
  return new TernError('integrity', 'the compressed data is damaged: its parts do not fit together');
}

/** Tokens that stand for exactly these bytes. TernError 'unsupported' where there is a byte that no token stands for. */
function losslessly(codec: Codec): (block: Bytes) => Uint32Array<ArrayBuffer> {
  let single: Map<number, number> | null = null; // the tokens of one byte
  const tokenOf = (byte: number): number => {
    if (!single) {
      single = new Map();
      for (let token = codec.size - 1; token >= 0; token--) {
        const bytes = codec.decode([token]);
        if (bytes.length === 1) single.set(bytes[0] ?? 0, token);
      }
    }
    const token = single.get(byte);
    if (token !== undefined) return token;
    throw new TernError('unsupported', `no piece of this model stands for the byte ${byte}: it can compress text only`);
  };
  return function tokensOf(block): Uint32Array<ArrayBuffer> {
    const tokens = codec.encode(block, { control: false, begins: false });
    const back = codec.decode(tokens);
    if (back.length === block.length && back.every((byte, i) => byte === block[i])) return tokens;
    if (block.length <= 8) return Uint32Array.from(block, tokenOf);
    const half = block.length >> 1; // what is no text, or text in another form, may be in one of them only
    return Uint32Array.of(...tokensOf(block.slice(0, half)), ...tokensOf(block.slice(half)));
  };
}

/** CRC-32 as gzip has it, and the length. */
class Checksum {
  length = 0;
  #crc = 0xffffffff;

  push(data: Uint8Array): void {
    for (const byte of data) this.#crc = (this.#crc >>> 8) ^ (kCrc[(this.#crc ^ byte) & 255] ?? 0);
    this.length += data.length;
  }

  get value(): number {
    return ~this.#crc >>> 0;
  }
}

const kCrc = Uint32Array.from({ length: 256 }, (_, byte) => {
  for (let bit = 0; bit < 8; bit++) byte = byte & 1 ? (byte >>> 1) ^ 0xedb88320 : byte >>> 1;
  return byte;
});

/** Seven bits a byte, the lowest first; all but the last have the eighth. */
function varint(value: number): number[] {
  return value < 128 ? [value] : [(value % 128) + 128, ...varint(Math.floor(value / 128))];
}

function littleEndian(value: bigint, bytes: number): number[] {
  return Array.from({ length: bytes }, (_, i) => Number((value >> BigInt(8 * i)) & 255n));
}

/** Bytes of a stream, as many as are asked for. */
class Input {
  readonly #pieces: AsyncIterator<Uint8Array>;
  #piece = new Uint8Array(0);

  constructor(pieces: AsyncIterator<Uint8Array>) {
    this.#pieces = pieces;
  }

  async goesOn(): Promise<boolean> {
    while (this.#piece.length === 0) {
      const next = await this.#pieces.next();
      if (next.done) return false;
      this.#piece = new Uint8Array(next.value);
    }
    return true;
  }

  async take(size: number): Promise<Bytes> {
    const taken = new Uint8Array(size);
    for (let at = 0; at < size;) {
      if (!(await this.goesOn())) {
        throw new TernError('incomplete', 'the compressed data ends before it should: some of it is missing');
      }
      const part = this.#piece.subarray(0, size - at);
      taken.set(part, at);
      this.#piece = this.#piece.subarray(part.length);
      at += part.length;
    }
    return taken;
  }

  async number(bytes: number): Promise<bigint> {
    return (await this.take(bytes)).reduceRight((value, byte) => (value << 8n) | BigInt(byte), 0n);
  }

  async varint(): Promise<number> {
    for (let [value, unit] = [0, 1]; unit <= 2 ** 49; unit *= 128) {
      const [byte = 0] = await this.take(1);
      value += (byte % 128) * unit;
      if (byte < 128) return value;
    }
    throw damaged();
  }
}
