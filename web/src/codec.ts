// Text to what a model reads and back, across pieces: a character split between two of them appears whole in the second.
// SPDX-License-Identifier: MIT

import { TernError, badOption } from './errors.js';

export type Input = string | Uint8Array;

/** What a text is to a model. Bytes are the only kind yet; their tokens are the bytes themselves. */
export interface Codec {
  /** Own memory, which may be given away. `name` is what an error calls the input. */
  encode(name: string, input: Input): Uint8Array<ArrayBuffer>;
  /** For a text that goes on after `begun`: the tokens of a character that was begun and not finished. */
  decoder(begun: Uint8Array): Decoder;
}

export interface Decoder {
  /** The characters completed by these tokens; malformed ones become U+FFFD. */
  push(tokens: Uint8Array): string;
  /**
   * The end of the text. A character begun and not finished is malformed if the text ended there,
   * and merely not there yet if the text was `cut` short (a length limit, a stop): then nothing is shown for it.
   */
  finish(cut: boolean): string;
}

export const kBytes: Codec = {
  encode(name, input) {
    const given: unknown = input; // a caller in plain JavaScript can pass anything
    if (typeof given === 'string') return new TextEncoder().encode(given);
    if (!(given instanceof Uint8Array)) throw badOption(name, 'a string or a Uint8Array', given);
    try {
      return new Uint8Array(given);
    } catch (error) {
      throw new TernError('bad-option', `the memory of ${name} was given away`, { cause: error });
    }
  },

  decoder(begun) {
    const utf8 = new TextDecoder('utf-8', { ignoreBOM: true }); // a mark that the model wrote is a character
    utf8.decode(begun, { stream: true });
    return {
      push: (bytes) => utf8.decode(bytes, { stream: true }),
      finish: (cut) => {
        const rest = utf8.decode();
        return cut ? '' : rest;
      },
    };
  },
};

/** The bytes at the end of a text that begin a character and do not finish it: at most three. */
export function begunCharacter(text: Uint8Array): Uint8Array<ArrayBuffer> {
  for (let length = 1; length <= Math.min(3, text.length); length++) {
    const byte = text[text.length - length] ?? 0;
    if ((byte & 0xc0) === 0x80) continue; // goes on with a character
    const whole = byte < 0xc2 ? 1 : byte < 0xe0 ? 2 : byte < 0xf0 ? 3 : byte < 0xf5 ? 4 : 1;
    return new Uint8Array(text.subarray(length < whole ? text.length - length : text.length));
  }
  return new Uint8Array(0);
}
