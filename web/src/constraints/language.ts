// What a language of texts is made of, and the finite automaton that reads it byte by byte.
// SPDX-License-Identifier: MIT

import { TernError } from '../errors.js';

/** Code points from first to last. */
export type Range = readonly [first: number, last: number];

/** A set of texts. */
export type Language =
  /** The texts of one character of these. */
  | { readonly kind: 'character'; readonly ranges: readonly Range[] }
  /** This one, byte for byte. */
  | { readonly kind: 'bytes'; readonly bytes: Uint8Array }
  /** A text of each, one after the other; without parts the empty text. */
  | { readonly kind: 'sequence'; readonly parts: readonly Language[] }
  /** A text of any of them; without parts none at all. */
  | { readonly kind: 'choice'; readonly parts: readonly Language[] }
  | { readonly kind: 'repeat'; readonly what: Language; readonly least: number; readonly most: number };

export const kLastCodePoint = 0x10ffff;

export function text(value: string): Language {
  return { kind: 'bytes', bytes: new TextEncoder().encode(value) };
}

export function sequence(...parts: Language[]): Language {
  return { kind: 'sequence', parts };
}

export function choice(...parts: Language[]): Language {
  return { kind: 'choice', parts };
}

export function repeat(what: Language, least: number, most: number): Language {
  return { kind: 'repeat', what, least, most };
}

export const kEmpty = sequence();

export function optional(what: Language): Language {
  return repeat(what, 0, 1);
}

/** Rising, without overlap. */
export function union(ranges: readonly Range[]): Range[] {
  const merged: [number, number][] = [];
  for (const [first, last] of [...ranges].sort((a, b) => a[0] - b[0])) {
    const before = merged.at(-1);
    if (before && first <= before[1] + 1) before[1] = Math.max(before[1], last);
    else merged.push([first, last]);
  }
  return merged;
}

/** All other code points. */
export function complement(ranges: readonly Range[]): Range[] {
  const others: Range[] = [];
  let from = 0;
  for (const [first, last] of union(ranges)) {
    if (first > from) others.push([from, first - 1]);
    from = last + 1;
  }
  if (from <= kLastCodePoint) others.push([from, kLastCodePoint]);
  return others;
}

/** The characters of both. */
export function intersection(a: readonly Range[], b: readonly Range[]): Range[] {
  return complement([...complement(a), ...complement(b)]);
}

/** So large may an automaton be while it is made, in states; only what is as large as a book comes near. */
const kMostParts = 200_000;

interface Edge {
  readonly first: number;
  readonly last: number;
  readonly to: number;
}

/** A nondeterministic automaton: from a state without reading along `free`, with a byte along `edges` (Thompson 1968). */
export class Parts {
  readonly edges: Edge[][] = [];
  readonly free: number[][] = [];

  state(): number {
    if (this.edges.length >= kMostParts) throw tooLarge();
    this.free.push([]);
    return this.edges.push([]) - 1;
  }

  edge(from: number, first: number, last: number, to: number): void {
    this.edges[from]?.push({ first, last, to });
  }

  skip(from: number, to: number): void {
    this.free[from]?.push(to);
  }

  /** The language, read from a state on; answers where it ends. */
  add(language: Language, from: number): number {
    switch (language.kind) {
      case 'character':
        return this.#addCharacter(language.ranges, from);
      case 'bytes':
        for (const byte of language.bytes) {
          const to = this.state();
          this.edge(from, byte, byte, to);
          from = to;
        }
        return from;
      case 'sequence':
        return language.parts.reduce((at, part) => this.add(part, at), from);
      case 'choice': {
        const end = this.state();
        for (const part of language.parts) {
          const begin = this.state(); // of its own: a loop in one must not lead into the others
          this.skip(from, begin);
          this.skip(this.add(part, begin), end);
        }
        return end;
      }
      case 'repeat':
        return this.#addRepeat(language, from);
    }
  }

  #addRepeat({ what, least, most }: Language & { kind: 'repeat' }, from: number): number {
    for (let n = 0; n < least; n++) from = this.add(what, from);
    const end = this.state();
    if (most === Infinity) {
      const begin = this.state();
      this.skip(from, begin);
      this.skip(this.add(what, begin), begin);
      this.skip(begin, end);
      return end;
    }
    for (let n = least; n < most; n++) {
      this.skip(from, end);
      const begin = this.state();
      this.skip(from, begin);
      from = this.add(what, begin);
    }
    this.skip(from, end);
    return end;
  }

  #addCharacter(ranges: readonly Range[], from: number): number {
    const end = this.state();
    for (const [first, last] of union(ranges)) {
      for (const bytes of utf8(first, last)) {
        let at = from;
        bytes.forEach(([low, high], i) => {
          const to = i === bytes.length - 1 ? end : this.state();
          this.edge(at, low, high, to);
          at = to;
        });
      }
    }
    return end;
  }
}

export function tooLarge(): TernError {
  return new TernError('bad-option', 'constraint or stop: too large an automaton: expected smaller counts and choices');
}

/** Last code points of the lengths 1 to 4, and the surrogates in between, which are no characters. */
const kEnds = [0x7f, 0x7ff, 0xd7ff, 0xdfff, 0xffff, kLastCodePoint];

/** The UTF-8 of the code points from first to last, as sequences of ranges of bytes. */
function utf8(first: number, last: number): Range[][] {
  const sequences: Range[][] = [];
  for (const end of kEnds) {
    if (first > last) break;
    if (first > end) continue;
    const to = Math.min(last, end);
    if (end !== 0xdfff) sequences.push(...split(encode(first), encode(to)));
    first = to + 1;
  }
  return sequences;
}

function encode(codePoint: number): number[] {
  return [...new TextEncoder().encode(String.fromCodePoint(codePoint))];
}

/** Of two characters of equal length: all from the one to the other. */
function split(first: readonly number[], last: readonly number[]): Range[][] {
  const [low = 0, ...lows] = first;
  const [high = 0, ...highs] = last;
  if (lows.length === 0) return [[[low, high]]];
  const least = lows.map(() => 0x80);
  const most = lows.map(() => 0xbf);
  const after = (from: number, to: number, a: readonly number[], b: readonly number[]): Range[][] =>
    split(a, b).map((rest) => [[from, to], ...rest]);
  if (low === high) return after(low, high, lows, highs);
  const beginsWhole = lows.every((byte) => byte === 0x80);
  const endsWhole = highs.every((byte) => byte === 0xbf);
  const from = beginsWhole ? low : low + 1;
  const to = endsWhole ? high : high - 1;
  return [
    ...(beginsWhole ? [] : after(low, low, lows, most)),
    ...(from <= to ? after(from, to, least, most) : []),
    ...(endsWhole ? [] : after(high, high, least, highs)),
  ];
}
