// The demo page shows a chunk's beginning before the character it lies in.
// SPDX-License-Identifier: MIT

import { describe, expect, test } from 'vitest';
import { boundariesOf, bytesIn } from '../../web/demo/chunks.js';

function masksOf(length: number, at: Record<number, number>): Uint8Array {
  return Uint8Array.from({ length }, (_, i) => at[i] ?? 0);
}

describe('boundaries', () => {
  test('are where chunks begin', () => {
    const text = 'once upon a time';
    expect(boundariesOf(text, masksOf(text.length, { 0: 3, 5: 1, 10: 1 }))).toEqual([
      { at: 0, mask: 3 },
      { at: 5, mask: 1 },
      { at: 10, mask: 1 },
    ]);
  });

  test('inside a character are before it, those of all its bytes together', () => {
    const fox = 'a🦊b'; // 1 + 4 + 1 bytes
    expect(boundariesOf(fox, masksOf(6, { 2: 1, 3: 2, 5: 1 }), 10)).toEqual([
      { at: 11, mask: 3 },
      { at: 13, mask: 1 }, // the fox has two code units
    ]);
  });

  test('count bytes as UTF-8 does', () => {
    for (const character of ['a', '\u007f', 'é', '\u07ff', 'ह', '\uffff', '🦊']) {
      expect(bytesIn(character)).toBe(new TextEncoder().encode(character).length);
    }
  });
});
