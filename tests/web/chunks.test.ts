// The demo page shows a chunk's beginning before the character it lies in, and counts chunks by bytes.
// SPDX-License-Identifier: MIT

import { describe, expect, test } from 'vitest';
import { Chunking } from '../../web/demo/chunks.js';

const toBytes = (text: string): Uint8Array => new TextEncoder().encode(text);

function masksOf(length: number, at: Record<number, number>): Uint8Array {
  return Uint8Array.from({ length }, (_, i) => at[i] ?? 0);
}

describe('chunking', () => {
  test('cuts the text where chunks begin', () => {
    const bytes = toBytes('once upon a time');
    const pieces = new Chunking(2).push(bytes, masksOf(bytes.length, { 0: 3, 5: 1, 10: 1 }));
    expect(pieces).toEqual([
      { text: 'once ', mask: 3 },
      { text: 'upon ', mask: 1 },
      { text: 'a time', mask: 1 },
    ]);
  });

  test('goes on with the piece before when no chunk begins', () => {
    const chunking = new Chunking(1);
    expect(chunking.push(toBytes('ab'), masksOf(2, { 1: 1 }))).toEqual([
      { text: 'a', mask: 0 },
      { text: 'b', mask: 1 },
    ]);
    expect(chunking.push(toBytes('cd'), masksOf(2, {}))).toEqual([{ text: 'cd', mask: 0 }]);
  });

  test('shows a chunk that begins inside a character before it, also across slices', () => {
    const fox = toBytes('a🦊b'); // 1 + 4 + 1 bytes
    const chunking = new Chunking(2);
    const masks = masksOf(6, { 2: 1, 3: 2 });
    expect(chunking.push(fox.subarray(0, 3), masks.subarray(0, 3))).toEqual([{ text: 'a', mask: 0 }]);
    expect(chunking.push(fox.subarray(3), masks.subarray(3))).toEqual([{ text: '🦊b', mask: 3 }]);
  });

  test('gives the same text as the bytes, malformed or not', () => {
    const bytes = Uint8Array.from({ length: 600 }, (_, i) => (i * 37) & 0xff);
    const whole = new TextDecoder('utf-8', { ignoreBOM: true }).decode(bytes, { stream: true });
    const chunking = new Chunking(1);
    let text = '';
    for (let at = 0; at < bytes.length; at += 7) {
      const slice = bytes.subarray(at, at + 7);
      text += chunking
        .push(slice, masksOf(slice.length, { 2: 1 }))
        .map((piece) => piece.text)
        .join('');
    }
    expect(text).toBe(whole);
  });

  test('measures bytes per chunk at every stage', () => {
    const chunking = new Chunking(3);
    expect(chunking.bytesPerChunk).toEqual([null, null, null]);
    chunking.push(toBytes('12345678'), masksOf(8, { 0: 3, 4: 1 }));
    expect(chunking.bytesPerChunk).toEqual([4, 8, null]);
  });
});
