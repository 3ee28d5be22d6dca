// Where the model begins chunks, character by character, and how long its chunks are.
// SPDX-License-Identifier: MIT

/** A piece of text; mask 0 where no chunk begins with it, else bit s is set where a chunk of stage s begins. */
export interface Piece {
  text: string;
  readonly mask: number;
}

/** A whole text, cut where chunks begin. */
export function piecesOf(text: string, boundaries: Uint8Array): Piece[] {
  return new Chunking(0).push(new TextEncoder().encode(text), boundaries);
}

/** Bytes come with boundaries, the reader sees characters: a chunk that begins inside one is shown before it. */
export class Chunking {
  readonly #decoder = new TextDecoder('utf-8', { ignoreBOM: true });
  readonly #chunks: number[];
  #bytes = 0;
  #mask = 0; // of the character begun

  constructor(stages: number) {
    this.#chunks = Array.from({ length: stages }, () => 0);
  }

  /** The characters that these bytes complete, cut where chunks begin. */
  push(bytes: Uint8Array, boundaries: Uint8Array): Piece[] {
    const pieces: Piece[] = [];
    bytes.forEach((byte, i) => {
      const mask = boundaries[i] ?? 0;
      this.#count(mask);
      this.#mask |= mask;
      const text = this.#decoder.decode(Uint8Array.of(byte), { stream: true });
      if (text === '') return;
      const last = pieces.at(-1);
      if (last && this.#mask === 0) last.text += text;
      else pieces.push({ text, mask: this.#mask });
      this.#mask = 0;
    });
    return pieces;
  }

  /** Mean length so far per stage; null before a stage's first chunk. */
  get bytesPerChunk(): (number | null)[] {
    return this.#chunks.map((chunks) => (chunks > 0 ? this.#bytes / chunks : null));
  }

  #count(mask: number): void {
    this.#bytes++;
    this.#chunks.forEach((_, stage) => (this.#chunks[stage] = (this.#chunks[stage] ?? 0) + ((mask >> stage) & 1)));
  }
}
