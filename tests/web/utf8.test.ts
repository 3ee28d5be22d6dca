// Characters survive any cut into chunks; only malformed bytes become U+FFFD.
// SPDX-License-Identifier: MIT

import { describe, expect, test } from 'vitest';
import { Utf8Carry, toBytes } from '../../web/src/utf8.js';

const kText = 'Straße, café, Привет, 世界, 🦉🏳️‍🌈, e\u0301, \uFEFFmark';

function decodeInPieces(bytes: Uint8Array, sizeOf: (piece: number) => number, cut = false): string {
  const carry = new Utf8Carry();
  let text = '';
  for (let at = 0, piece = 0; at < bytes.length; piece++) {
    const size = sizeOf(piece);
    text += carry.push(bytes.subarray(at, at + size));
    at += size;
  }
  return text + carry.finish(cut);
}

describe('text', () => {
  test.each([1, 2, 3, 4, 5, 7, 64])('comes out whole from chunks of %i bytes', (size) => {
    expect(decodeInPieces(toBytes(kText), () => size)).toBe(kText);
  });

  test('comes out whole from every cut into two chunks', () => {
    const bytes = toBytes(kText);
    for (let cut = 0; cut <= bytes.length; cut++) {
      expect(decodeInPieces(bytes, (piece) => (piece === 0 ? Math.max(1, cut) : bytes.length))).toBe(kText);
    }
  });

  test('never shows a part of a character', () => {
    const carry = new Utf8Carry();
    const shown = [...toBytes('a🦉b')].map((byte) => carry.push(Uint8Array.of(byte)));
    expect(shown).toEqual(['a', '', '', '', '🦉', 'b']);
  });

  test.each([
    [[0x61, 0xff, 0x62], 'a\uFFFDb'],
    [[0xc3, 0x28], '\uFFFD('],
    [[0x80], '\uFFFD'],
    [[0xed, 0xa0, 0x80], '\uFFFD\uFFFD\uFFFD'], // a surrogate
    [[0xf0, 0x9f, 0x61], '\uFFFDa'],
  ])('with malformed bytes %j shows U+FFFD for them and nothing else', (bytes, expected) => {
    expect(decodeInPieces(Uint8Array.from(bytes), () => 1)).toBe(expected);
  });

  test('that was cut inside a character shows nothing for it', () => {
    const bytes = toBytes('fox 🦉').subarray(0, -1);
    expect(decodeInPieces(bytes, () => 2, true)).toBe('fox ');
  });

  test('that ended inside a character is malformed there', () => {
    const bytes = toBytes('fox 🦉').subarray(0, -1);
    expect(decodeInPieces(bytes, () => 2, false)).toBe('fox \uFFFD');
  });
});
