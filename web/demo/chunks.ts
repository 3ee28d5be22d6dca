// Where a hierarchical model begins chunks in a text, and how long its chunks are.
// SPDX-License-Identifier: MIT

import type { Take } from './take.js';

/** Mean bytes per chunk of what a take has shown, for each stage that has begun one. */
export function bytesPerChunk({ pieces, length }: Take): number[] {
  const chunks: number[] = [];
  for (const { masks } of pieces) {
    for (let rest of masks ?? []) {
      for (let stage = 0; rest > 0; stage++, rest >>= 1) chunks[stage] = (chunks[stage] ?? 0) + (rest & 1);
    }
  }
  return Array.from(chunks, (count: number | undefined) => length / Math.max(1, count ?? 0));
}

/** A place in a text where a chunk begins; bit s of `mask` is set if one of stage s does. */
export interface Boundary {
  readonly at: number;
  readonly mask: number;
}

/** `masks`: of each byte of the text, in UTF-8. A chunk that begins inside a character is shown before it. */
export function boundariesOf(text: string, masks: Uint8Array, offset = 0): Boundary[] {
  const found: Boundary[] = [];
  let [at, byte] = [offset, 0];
  for (const character of text) {
    let mask = 0;
    for (const end = byte + bytesIn(character); byte < end; byte++) mask |= masks[byte] ?? 0;
    if (mask !== 0) found.push({ at, mask });
    at += character.length;
  }
  return found;
}

/** Of a character in UTF-8. */
export function bytesIn(character: string): number {
  const code = character.codePointAt(0) ?? 0;
  return code < 0x80 ? 1 : code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
}
