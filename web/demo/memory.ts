// What the model remembers of a text, block by block, and how long: read from saved conversations.
// SPDX-License-Identifier: MIT

import type { Model, Session } from 'ternlm';

/** For each block its numbers that fade, in the order of the channels. */
export type Memory = readonly Int32Array[];

/** Where they are among the words of a saved conversation. */
export interface Layout {
  readonly blocks: number;
  readonly channels: number;
  /** Words of a block in all: the last inputs of its convolution come after what fades. */
  readonly each: number;
}

// Of what Session.save() gives: cpp/session/snapshot.h.
const kHeader = 36;
const kHash = 8;

/** Null: the state of this model is not one row of numbers for each block. */
export function layoutOf({ info }: Model): Layout | null {
  const value = (name: string): number => Number(info.config[name] ?? info.config[`${info.architecture}.${name}`] ?? 0);
  const [blocks, channels] = [value('block_count'), value('recurrent_length')];
  const each = info.stateBytes / 4 / blocks;
  return info.architecture === 'hgrnbit' && Number.isInteger(each) && channels > 0 && channels <= each
    ? { blocks, channels, each }
    : null;
}

export function memoryIn(saved: Uint8Array<ArrayBuffer>, { blocks, channels, each }: Layout): Memory {
  const view = new DataView(saved.buffer, saved.byteOffset);
  return Array.from({ length: blocks }, (_, block) =>
    Int32Array.from({ length: channels }, (_, i) => view.getInt32(kHeader + 4 * (block * each + i), true)),
  );
}

/** The engine's unit of a state number is 2^-16; this is one that neither drowns in rounding nor saturates. */
const kPush = 1 << 16;

/**
 * After how many bytes half of what a channel holds is gone, for each block and channel, while the model reads `words`
 * behind `before`, which is what the session has read afterwards. Infinity: nothing went.
 *
 * A block's forget gates do not depend on what the block itself remembers, only on what comes from below. So a number
 * that is pushed comes back by exactly the product of its gates: the difference to a conversation without the push.
 */
export async function halfLives(session: Session, layout: Layout, before: string, words: string): Promise<number[][]> {
  await session.reset();
  await session.feed(before);
  const start = await session.save();
  await session.feed(words);
  const end = await session.save();
  const plain = memoryIn(end, layout);
  const bytes = new TextEncoder().encode(words).length;
  const all: number[][] = [];
  for (const [block, expected] of plain.entries()) {
    await session.restore(pushed(start, layout, block));
    await session.feed(words);
    const found = memoryIn(await session.save(), layout)[block] ?? expected;
    all.push(Array.from(found, (number, i) => halfLife((number - (expected[i] ?? 0)) / kPush, bytes)));
  }
  await session.restore(end);
  return all;
}

function halfLife(left: number, bytes: number): number {
  if (left >= 1) return Infinity;
  return (bytes * Math.log(0.5)) / Math.log(Math.max(left, 1 / kPush));
}

/** The same conversation, had every channel of a block remembered a little more. */
function pushed(saved: Uint8Array<ArrayBuffer>, { channels, each }: Layout, block: number): Uint8Array<ArrayBuffer> {
  const other = saved.slice();
  const view = new DataView(other.buffer);
  for (let i = 0; i < channels; i++) {
    const at = kHeader + 4 * (block * each + i);
    view.setInt32(at, view.getInt32(at, true) + kPush, true);
  }
  view.setBigUint64(other.length - kHash, fnv1a(other.subarray(0, -kHash)), true);
  return other;
}

function fnv1a(bytes: Uint8Array): bigint {
  let hash = 0xcbf29ce484222325n;
  for (const byte of bytes) hash = BigInt.asUintN(64, (hash ^ BigInt(byte)) * 0x100000001b3n);
  return hash;
}
