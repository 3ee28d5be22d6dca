// Bytes to text across chunks: a character split between two chunks appears whole in the second.
// SPDX-License-Identifier: MIT

export type Input = string | Uint8Array;

export function toBytes(input: Input): Uint8Array {
  return typeof input === 'string' ? new TextEncoder().encode(input) : input;
}

export class Utf8Carry {
  // ignoreBOM: keep a byte order mark as the character the model wrote.
  readonly #decoder = new TextDecoder('utf-8', { ignoreBOM: true });

  /** The characters completed by these bytes; malformed ones become U+FFFD. */
  push(bytes: Uint8Array): string {
    return this.#decoder.decode(bytes, { stream: true });
  }

  /**
   * The end of the text. A character begun and not finished is malformed if the text ended there,
   * and merely not there yet if the text was `cut` short (a length limit, a stop): then nothing is shown for it.
   */
  finish(cut: boolean): string {
    const rest = this.#decoder.decode();
    return cut ? '' : rest;
  }
}
