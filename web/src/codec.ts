// Text to what a model reads and back, across pieces: a character split between two of them appears whole in the second.
// SPDX-License-Identifier: MIT

import { TernError, badOption } from './errors.js';

/** A text, its bytes, or the tokens of the model themselves. */
export type Input = string | Uint8Array | Uint32Array;

/** How a text is read. */
export interface Reading {
  /** The names of control tokens in it are those tokens. */
  readonly control: boolean;
  /** Nothing comes before it. */
  readonly begins: boolean;
}

/** What a text is to a model: bytes, whose tokens are the bytes themselves, or the pieces of a tokenizer. */
export interface Codec {
  /** Tokens are 0 to size - 1. */
  readonly size: number;
  /** Whether encode() puts a space before a text that begins. */
  readonly beginsWithSpace: boolean;
  /** The tokens that no text is, by their names. */
  readonly controls?: ReadonlyMap<string, number>;
  /** `text`: UTF-8, or not quite. */
  encode(text: Uint8Array, reading: Reading): Uint32Array<ArrayBuffer>;
  /** What the tokens stand for, one after the other: it may begin and end inside a character. */
  decode(tokens: Iterable<number>): Uint8Array<ArrayBuffer>;
}

export const kBytes: Codec = {
  size: 256,
  beginsWithSpace: false,
  encode: (text) => Uint32Array.from(text),
  decode: (tokens) => Uint8Array.from(tokens),
};

/** In memory of their own, which may be given away. `name` is what an error calls the input. */
export function toTokens(codec: Codec, name: string, input: Input, reading: Reading): Uint32Array<ArrayBuffer> {
  if (!(input instanceof Uint32Array)) return codec.encode(toBytes(name, input), reading);
  const tokens = copy(name, () => new Uint32Array(input));
  const wrong = tokens.find((token) => token >= codec.size);
  if (wrong !== undefined) throw badOption(name, `made of tokens from 0 to ${codec.size - 1}`, wrong);
  return tokens;
}

/** As toTokens() has them. */
export function toBytes(name: string, input: string | Uint8Array): Uint8Array<ArrayBuffer> {
  const given: unknown = input; // a caller in plain JavaScript can pass anything
  if (typeof given === 'string') return new TextEncoder().encode(given);
  if (given instanceof Uint8Array) return copy(name, () => new Uint8Array(given));
  throw badOption(name, 'a string or a Uint8Array, or tokens as a Uint32Array', given);
}

function copy<T>(name: string, make: () => T): T {
  try {
    return make();
  } catch (error) {
    throw new TernError('bad-option', `the memory of ${name} was given away`, { cause: error });
  }
}

export interface Decoder {
  /** The bytes of these tokens, and the characters completed by them; malformed ones become U+FFFD. */
  push(tokens: Iterable<number>): { readonly text: string; readonly bytes: Uint8Array<ArrayBuffer> };
  /**
   * The end of the text. A character begun and not finished is malformed if the text ended there,
   * and merely not there yet if the text was `cut` short (a length limit, a stop): then nothing is shown for it.
   */
  finish(cut: boolean): string;
  /** What was kept back, before finish(); only of one that keeps something back. */
  rest?(): { readonly text: string; readonly bytes: Uint8Array<ArrayBuffer> };
}

/** `before`: the last tokens, three of them do, of a text that goes on; at the beginning of a text there are none. */
export function newDecoder(codec: Codec, before: Uint32Array, begins = before.length === 0): Decoder {
  const utf8 = new TextDecoder('utf-8', { ignoreBOM: true }); // a mark that the model wrote is a character
  utf8.decode(begunCharacter(codec.decode(before)), { stream: true });
  let first = begins && codec.beginsWithSpace;
  return {
    push(tokens) {
      let bytes = codec.decode(tokens);
      if (first && bytes.length > 0) {
        if (bytes[0] === 0x20) bytes = bytes.slice(1);
        first = false;
      }
      return { text: utf8.decode(bytes, { stream: true }), bytes };
    },
    finish(cut) {
      const rest = utf8.decode();
      return cut ? '' : rest;
    },
  };
}

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
