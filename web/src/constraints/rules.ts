// What a generation must be and where it ends, as the table that the engine walks (cpp/text/rules.h).
// SPDX-License-Identifier: MIT

import type { Codec } from '../codec.js';
import type { Automaton } from './automaton.js';
import { kNone } from './automaton.js';

/** The bytes of all tokens, one after the other. */
export interface Pieces {
  /** [tokens + 1] where each begins. */
  readonly offsets: Uint32Array;
  readonly bytes: Uint8Array;
  /** Bytes that are a token by themselves: whatever an automaton of these reads, tokens can write. */
  readonly alphabet: ReadonlySet<number>;
}

const kPieces = new WeakMap<Codec, Pieces>();

/** Made once for each model. */
export function piecesOf(codec: Codec): Pieces {
  const known = kPieces.get(codec);
  if (known) return known;
  const each = Array.from({ length: codec.size }, (_, token) => codec.decode([token]));
  const offsets = new Uint32Array(codec.size + 1);
  each.forEach((bytes, token) => (offsets[token + 1] = (offsets[token] ?? 0) + bytes.length));
  const bytes = new Uint8Array(offsets[codec.size] ?? 0);
  each.forEach((piece, token) => bytes.set(piece, offsets[token]));
  const alphabet = new Set(each.flatMap((piece) => (piece.length === 1 ? [...piece] : [])));
  const pieces = { offsets, bytes, alphabet };
  kPieces.set(codec, pieces);
  return pieces;
}

export function toTable(
  constraint: Automaton | null,
  stop: Automaton | null,
  { offsets, bytes }: Pieces,
): Uint32Array<ArrayBuffer> {
  const { classOf, classes, indices } = common([constraint, stop].filter((each) => each !== null));
  const states = [constraint?.states ?? 0, stop?.states ?? 0];
  const all = (states[0] ?? 0) + (states[1] ?? 0);
  const packed = new Uint32Array(Math.ceil(bytes.length / 4));
  bytes.forEach((byte, at) => (packed[at >> 2] = (packed[at >> 2] ?? 0) | (byte << (8 * (at & 3)))));
  const table = new Uint32Array(3 + 256 + all + all * classes + offsets.length + packed.length);
  let place = 0;
  const put = (numbers: ArrayLike<number>): void => {
    table.set(numbers, place);
    place += numbers.length;
  };
  put([...states, classes]);
  put(classOf);
  for (const each of [constraint, stop]) put(each?.distance ?? []);
  for (const each of [constraint, stop]) {
    if (!each) continue;
    const first = each === stop ? (states[0] ?? 0) : 0;
    for (let state = 0; state < each.states; state++) {
      put(
        indices.map((index) => {
          const to =
            each.next[state * each.classes + (index[each === constraint ? 0 : index.length - 1] ?? 0)] ?? kNone;
          return to === kNone ? kNone : to + first;
        }),
      );
    }
  }
  put(offsets);
  put(packed);
  return table;
}

/** Classes that no state of any automaton tells apart, and what each is in each of them. */
function common(automata: readonly Automaton[]): { classes: number; classOf: Uint8Array; indices: number[][] } {
  const names = new Map<string, number>();
  const indices: number[][] = [];
  const classOf = Uint8Array.from({ length: 256 }, (_, byte) => {
    const index = automata.map((each) => each.classOf[byte] ?? 0);
    const name = index.join();
    const known = names.get(name);
    if (known !== undefined) return known;
    names.set(name, indices.length);
    return indices.push(index) - 1;
  });
  return { classes: indices.length, classOf, indices };
}
