// What the model remembers of a text, block by block, and how long: read from saved conversations.
// SPDX-License-Identifier: MIT

import type { Model, Session } from 'ternlm';

/** For each block its numbers that fade, in the order of the channels. */
export type Memory = readonly Int32Array[];

/** Where a block has them among the words of a saved conversation. */
export interface BlockLayout {
  readonly name: string;
  readonly start: number;
  readonly channels: number;
}

export type Layout = readonly BlockLayout[];

// Of what Session.save() gives: cpp/session/snapshot.h.
const kHeader = 36;
const kHash = 8;

/**
 * The blocks in the order in which a byte goes through them as far as that is one; null where nothing fades: attention
 * keeps what it has read. The words are in the order in which cpp/model/arch lists its layers.
 */
export function layoutOf({ info }: Model): Layout | null {
  const { architecture, config, stateBytes } = info;
  const values = (name: string): number[] =>
    (config[name] ?? config[`${architecture}.${name}`] ?? '')
      .split(/[^\d]+/)
      .filter(Boolean)
      .map(Number);
  const value = (name: string, at = 0): number => values(name)[at] ?? 0;
  const blocks: BlockLayout[] = [];
  const taps = Math.max(0, value('conv_kernel') - 1);
  let word = 0;
  /** Blocks that hold `channels` that fade, and words before and behind them: the last inputs of their convolution. */
  const add = (name: string, count: number, channels: number, before: number, behind: number): void => {
    for (let n = 1; n <= count; n++) {
      blocks.push({ name: `${name} ${n}`, start: word + before, channels });
      word += before + channels + behind;
    }
  };
  const hgrn = (name: string, count: number, level: number): void =>
    add(name, count, value('recurrent_length', level), 0, taps * value('embedding_length', level));
  switch (architecture) {
    case 'hgrnbit':
      hgrn('Block', value('block_count'), 0);
      break;
    case 'bitmamba2':
      add('Block', value('block_count'), value('inner_length'), taps * value('inner_length'), 0);
      break;
    case 'hnetbit':
      for (let stage = 0; stage < info.stages; stage++) {
        hgrn('Encoder', value('encoder_block_count', stage), stage);
        hgrn('Decoder', value('decoder_block_count', stage), stage);
        word += 1 + value('router_length', stage) + value('embedding_length', stage);
      }
      hgrn('Inner block', value('block_count'), info.stages);
      break;
  }
  return blocks.length > 0 && word === stateBytes / 4 ? blocks : null;
}

export function memoryIn(saved: Uint8Array<ArrayBuffer>, layout: Layout): Memory {
  const view = new DataView(saved.buffer, saved.byteOffset);
  return layout.map(({ start, channels }) =>
    Int32Array.from({ length: channels }, (_, i) => view.getInt32(kHeader + 4 * (start + i), true)),
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
    await session.restore(pushed(start, layout[block]));
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
function pushed(saved: Uint8Array<ArrayBuffer>, block: BlockLayout | undefined): Uint8Array<ArrayBuffer> {
  const other = saved.slice();
  const view = new DataView(other.buffer);
  const { start, channels } = block ?? { start: 0, channels: 0 };
  for (let i = 0; i < channels; i++) {
    const at = kHeader + 4 * (start + i);
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
