// Characters survive any cut into chunks; only malformed bytes become U+FFFD.
// SPDX-License-Identifier: MIT

import { describe, expect, test } from 'vitest';
import {
  begunCharacter,
  kBytes,
  newDecoder,
  toBytes as encoded,
  toTokens,
  type Decoder,
  type Input,
} from '../../web/src/codec.js';

const toBytes = (text: string): Uint8Array => encoded('text', text);
const newCarry = (before: Uint8Array = new Uint8Array(0)): Decoder => newDecoder(kBytes, Uint32Array.from(before));

const kText = 'Straße, café, Привет, 世界, 🦉🏳️‍🌈, e\u0301, \uFEFFmark';

function decodeInPieces(bytes: Uint8Array, sizeOf: (piece: number) => number, cut = false): string {
  const carry = newCarry();
  let text = '';
  for (let at = 0, piece = 0; at < bytes.length; piece++) {
    const size = sizeOf(piece);
    text += carry.push(bytes.subarray(at, at + size)).text;
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
    const carry = newCarry();
    const shown = [...toBytes('a🦉b')].map((byte) => carry.push([byte]).text);
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

  test('goes on with the character that the text before has begun, whatever the cut', () => {
    const bytes = toBytes(kText);
    for (let cut = 0; cut <= bytes.length; cut++) {
      const [before, after] = [bytes.subarray(0, cut), bytes.subarray(cut)];
      const begun = begunCharacter(before);
      expect(begun.length).toBeLessThan(4);
      const [first, second] = [newCarry(), newCarry(before.slice(-3))];
      const shown = [first.push(before).text, first.finish(true), second.push(after).text, second.finish(false)];
      expect(shown.join('')).toBe(kText);
    }
  });

  test.each([[[0x61]], [[0x80, 0x80, 0x80, 0x80]], [[0xff]], [[0xc1]], [[0xf0, 0x9f, 0xa6, 0x8a]], [[]]])(
    'that ends with %j has begun no character',
    (bytes) => expect(begunCharacter(Uint8Array.from(bytes))).toEqual(new Uint8Array(0)),
  );
});

describe('input', () => {
  const read = (input: Input): Uint32Array => toTokens(kBytes, 'prompt', input, { control: false, begins: true });

  test.each<unknown>([5, null, undefined, {}, ['a'], new Uint16Array(2), new ArrayBuffer(2)])(
    'of a wrong type is refused by name (%#)',
    (input) => {
      expect(() => read(input as string)).toThrow(
        expect.objectContaining({
          code: 'bad-option',
          message: expect.stringMatching(/^prompt must be a string or a/),
        }),
      );
    },
  );

  test('whose memory was given away is refused', () => {
    const bytes = new Uint8Array(4);
    structuredClone(bytes, { transfer: [bytes.buffer] });
    expect(() => read(bytes)).toThrow(expect.objectContaining({ code: 'bad-option' }));
  });

  test('is copied: it stays with the caller', () => {
    const bytes = Uint8Array.of(1, 2);
    const own = read(bytes);
    expect(Array.from(own)).toEqual([1, 2]);
    const tokens = Uint32Array.of(1, 2);
    expect(read(tokens)).toEqual(tokens);
    expect(read(tokens).buffer).not.toBe(tokens.buffer);
  });
});
