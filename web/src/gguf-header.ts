// The part of a GGUF file before its data, and the data as it comes.
// SPDX-License-Identifier: MIT

import { TernError } from './errors.js';

export type Value = number | bigint | boolean | string | readonly Value[];
export type Keys = ReadonlyMap<string, Value>;

export const kAlignment = 32;
const kMostHeader = 64 << 20;

/** A tensor of the file; rows are as long as `cols`. */
export interface Tensor {
  readonly name: string;
  readonly rows: number;
  readonly cols: number;
  readonly dimensions: number;
  readonly shape: readonly number[];
  readonly type: number;
  readonly at: number;
}

// ---- bytes as they come ----

class Short extends Error {}

/** What a reader gives, to its end. */
export async function* arriving(reader: ReadableStreamDefaultReader<Uint8Array>): AsyncGenerator<Uint8Array, void> {
  for (;;) {
    const { value } = await reader.read();
    if (!value) return;
    yield value;
  }
}

export class Input {
  readonly #source: AsyncIterator<Uint8Array, void>;
  #bytes = new Uint8Array(1 << 16);
  #begin = 0; // of what is there
  #end = 0;
  #at = 0; // of that beginning in the file

  constructor(source: AsyncIterator<Uint8Array, void>) {
    this.#source = source;
  }

  /** How much of the file was taken. */
  get at(): number {
    return this.#at;
  }

  /** What is there, without taking it: `least` bytes or more. */
  async look(least: number): Promise<Uint8Array> {
    while (this.#end - this.#begin < least) {
      const { value } = await this.#source.next();
      if (!value)
        throw new TernError(
          'incomplete',
          `the file ends after ${this.#at + this.#end - this.#begin} bytes: get it again`,
        );
      this.#append(value, least);
    }
    return this.#bytes.subarray(this.#begin, this.#end);
  }

  /** The next bytes, valid until the next call. */
  async take(size: number): Promise<Uint8Array> {
    const bytes = (await this.look(size)).subarray(0, size);
    this.#begin += size;
    this.#at += size;
    return bytes;
  }

  async skipTo(at: number): Promise<void> {
    if (at < this.#at) throw new TernError('bad-file', 'tensors overlap: expected each behind the one before');
    while (this.#at < at) await this.take(Math.min(at - this.#at, 1 << 16));
  }

  #append(more: Uint8Array, least: number): void {
    const kept = this.#end - this.#begin;
    if (this.#end + more.length > this.#bytes.length) {
      const size = Math.max(kept + more.length, least, 1 << 16);
      const room = size > this.#bytes.length ? new Uint8Array(size) : this.#bytes;
      room.set(this.#bytes.subarray(this.#begin, this.#end));
      [this.#bytes, this.#begin, this.#end] = [room, 0, kept];
    }
    this.#bytes.set(more, this.#end);
    this.#end += more.length;
  }
}

// ---- the header of the file ----

export interface Header {
  readonly keys: Keys;
  readonly tensors: readonly Tensor[];
  readonly dataStart: number;
}

/** Parsed anew when twice as much is there, until it is whole. */
export async function readHeader(input: Input): Promise<Header> {
  for (let least = 24; ; least *= 2) {
    const bytes = await input.look(least);
    try {
      return parse(bytes);
    } catch (error) {
      if (!(error instanceof Short)) throw error;
      if (bytes.length > kMostHeader) throw new TernError('bad-file', `the header is longer than ${kMostHeader} bytes`);
      least = Math.max(least, bytes.length);
    }
  }
}

function parse(bytes: Uint8Array): Header {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const decoder = new TextDecoder();
  let at = 0;
  const move = (size: number): number => {
    if (at + size > bytes.length) throw new Short();
    at += size;
    return at - size;
  };
  const u32 = (): number => view.getUint32(move(4), true);
  const u64 = (): number => {
    const value = Number(view.getBigUint64(move(8), true));
    if (Number.isSafeInteger(value)) return value;
    throw new TernError('bad-file', `GGUF: a size of ${value}`);
  };
  const text = (): string => {
    const size = u64();
    const from = move(size);
    return decoder.decode(bytes.subarray(from, from + size));
  };
  const value = (type: number): Value => {
    switch (type) {
      case 0:
        return view.getUint8(move(1));
      case 1:
        return view.getInt8(move(1));
      case 2:
        return view.getUint16(move(2), true);
      case 3:
        return view.getInt16(move(2), true);
      case 4:
        return u32();
      case 5:
        return view.getInt32(move(4), true);
      case 6:
        return view.getFloat32(move(4), true);
      case 7:
        return view.getUint8(move(1)) !== 0;
      case 8:
        return text();
      case 9: {
        const [item, count] = [u32(), u64()];
        const items: Value[] = [];
        for (let i = 0; i < count; i++) items.push(value(item));
        return items;
      }
      case 10:
        return view.getBigUint64(move(8), true);
      case 11:
        return view.getBigInt64(move(8), true);
      case 12:
        return view.getFloat64(move(8), true);
      default:
        throw new TernError('bad-file', `GGUF: a key of type ${type}; expected 0 to 12`);
    }
  };
  const [magic, version] = [u32(), u32()];
  if (magic !== 0x46554747 || (version !== 2 && version !== 3)) {
    throw new TernError('unsupported', `expected GGUF version 2 or 3, found ${magic.toString(16)} ${version}`);
  }
  const [tensorCount, keyCount] = [u64(), u64()];
  const keys = new Map<string, Value>();
  for (let i = 0; i < keyCount; i++) {
    const name = text();
    keys.set(name, value(u32()));
  }
  const tensors: Tensor[] = [];
  for (let i = 0; i < tensorCount; i++) {
    const [name, dimensions] = [text(), u32()];
    if (dimensions < 1 || dimensions > 4) throw new TernError('bad-file', `${name} has ${dimensions} dimensions`);
    const shape = Array.from({ length: dimensions }, u64);
    const [type, offset] = [u32(), u64()];
    const [cols = 1, ...others] = shape;
    tensors.push({ name, cols, rows: others.reduce((a, b) => a * b, 1), dimensions, shape, type, at: offset });
  }
  const alignment = Number(keys.get('general.alignment') ?? kAlignment);
  tensors.sort((a, b) => a.at - b.at);
  return { keys, tensors, dataStart: Math.ceil(at / alignment) * alignment };
}
