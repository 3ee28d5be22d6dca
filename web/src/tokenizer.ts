// The tokens of a text and the text of tokens, for models that do not read bytes: an entry of its own, ternlm/tokenizer.
// SPDX-License-Identifier: MIT
//
// Splitting and merging is @huggingface/tokenizers; tests hold it equal to the Python library and to `tern tokenize`.
// Three things differ from calling it directly: names of control tokens in a text are text unless asked for, \s and digits
// are Unicode's as in the Python library, and tokens come back as bytes, so that no character is ever split.

import { Tokenizer as Library } from '@huggingface/tokenizers';
import { newDecoder, toBytes, type Codec } from './codec.js';
import { messagesRead } from './deferred.js';
import { TernError, badOption, describe } from './errors.js';

export type { Codec, Decoder, Reading } from './codec.js';

export interface EncodeOptions {
  /** The names of control tokens in the text (`<s>`, say) are those tokens. Default: they are text like any other. */
  readonly control?: boolean;
  /** Nothing comes before the text: LLaMA puts a space there. Default true. */
  readonly begins?: boolean;
}

/** Tokens to text as it is written: a character whose bytes are in several tokens appears with the last of them. */
export interface TokenDecoder {
  /** The characters completed by these tokens; malformed ones become U+FFFD. TernError: no such token. */
  push(tokens: Iterable<number>): string;
  /** The end of the text: U+FFFD for a character that was begun and not finished; nothing if the text was `cut` short. */
  finish(cut?: boolean): string;
}

/** What ByteLevel of the libraries splits at by itself (GPT-2). */
const kGpt2Split = String.raw`'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`;
const kSpace = '▁';

interface Piece {
  readonly text: string;
  readonly kind: 'text' | 'added' | 'control';
}

/** How long a thread may do nothing but make a tokenizer. */
const kStepMs = 8;
const kItems = 1024; // pieces or merges, after which the time is asked for

/** Of a tokenizer.json: what is large, in the form in which the library looks things up. */
interface Tables {
  readonly pieces: readonly Piece[];
  readonly ids: Map<string, number>;
  readonly ranks: Map<string, number>; // by the JSON of a pair
}

export class Tokenizer implements Codec {
  readonly #whole: Record<string, unknown>;
  readonly #tables: Tables;
  readonly #ofCharacters: boolean;
  readonly #dropped: ReadonlySet<string>; // characters of bytes that have no piece
  readonly #libraries = new Map<string, Library>();
  readonly beginsWithSpace: boolean;
  /** Control tokens by their names. */
  readonly controls: ReadonlyMap<string, number>;

  private constructor(whole: Record<string, unknown>, tables: Tables) {
    this.#whole = whole;
    this.#tables = tables;
    this.#ofCharacters = record(whole['model'], 'model')['byte_fallback'] === true;
    const added = new Set(list(whole['added_tokens']).map((token) => token['content']));
    const isDropped = (character: string): boolean => !tables.ids.has(character) && !added.has(character);
    this.#dropped = new Set(this.#ofCharacters ? [] : kByteCharacters.filter(isDropped));
    const numbered = tables.pieces.map(({ text, kind }, token) => ({ text, kind, token }));
    this.controls = new Map(numbered.filter(({ kind }) => kind === 'control').map(({ text, token }) => [text, token]));
    this.beginsWithSpace = this.#ofCharacters && JSON.stringify(whole['normalizer'] ?? null).includes('"Prepend"');
  }

  /**
   * `json`: the text of a tokenizer.json (key `tokenizer.huggingface.json` of a model file);
   * `vocabulary`: the tokens of the model, if known. TernError: not a tokenizer of these libraries, or of another size.
   */
  static fromJson(json: string, vocabulary?: number): Tokenizer {
    const steps = Tokenizer.#steps(json, vocabulary);
    for (;;) {
      const step = steps.next();
      if (step.done) return step.value;
    }
  }

  /** The same for a page, which can do something else every few milliseconds. */
  static async start(json: string, vocabulary?: number): Promise<Tokenizer> {
    const steps = Tokenizer.#steps(json, vocabulary);
    for (let end = performance.now() + kStepMs; ;) {
      const step = steps.next();
      if (step.done) return step.value;
      if (performance.now() < end) continue;
      await messagesRead();
      end = performance.now() + kStepMs;
    }
  }

  static *#steps(json: string, vocabulary?: number): Generator<void, Tokenizer, void> {
    try {
      const whole = record(JSON.parse(json), 'tokenizer.json');
      yield;
      const tokenizer = new Tokenizer(whole, yield* tablesOf(whole));
      if (vocabulary !== undefined && vocabulary !== tokenizer.size) {
        throw new TernError('bad-file', `the model has ${vocabulary} tokens, its tokenizer ${tokenizer.size} pieces`);
      }
      tokenizer.#library(false, true);
      return tokenizer;
    } catch (error) {
      throw TernError.from(error, 'bad-file', 'the tokenizer cannot be used: ');
    }
  }

  /** Pieces, and so the tokens it can give. */
  get size(): number {
    return this.#tables.pieces.length;
  }

  /** The number of a piece by its name, `<s>` say; undefined if there is none. */
  token(name: string): number | undefined {
    const token = this.#tables.pieces.findIndex((piece) => piece.text === name);
    return token < 0 ? undefined : token;
  }

  /** The tokens of a text; what is not well-formed in it counts as U+FFFD. No token is put before or after it. */
  encode(text: string | Uint8Array, { control = false, begins = true }: EncodeOptions = {}): Uint32Array<ArrayBuffer> {
    const whole = new TextDecoder('utf-8', { ignoreBOM: true }).decode(toBytes('text', text));
    if (whole === '') return new Uint32Array(0);
    try {
      const library = this.#library(control, begins || !this.beginsWithSpace);
      return Uint32Array.from(library.encode(whole, { add_special_tokens: false }).ids);
    } catch (error) {
      throw new TernError('bad-file', `the tokenizer stopped: ${describe(error)}`, { cause: error });
    }
  }

  /** The bytes that a token stands for, maybe a part of a character; none for a control token. TernError: no such token. */
  bytes(token: number): Uint8Array {
    const piece = this.#tables.pieces[token];
    if (piece === undefined) throw badOption('token', `a whole number from 0 to ${this.size - 1}`, token);
    return bytesOf(piece, this.#ofCharacters);
  }

  /** Of all tokens, one after the other. */
  decode(tokens: Iterable<number>): Uint8Array<ArrayBuffer> {
    const pieces = Array.from(tokens, (token) => this.bytes(token));
    const whole = new Uint8Array(pieces.reduce((size, piece) => size + piece.length, 0));
    let at = 0;
    for (const piece of pieces) {
      whole.set(piece, at);
      at += piece.length;
    }
    return whole;
  }

  /** `begins`: whether the tokens begin a text, so that the space which encode() put there goes. */
  decoder(begins = true): TokenDecoder {
    const decoder = newDecoder(this, new Uint32Array(0), begins);
    return { push: (tokens) => decoder.push(tokens).text, finish: (cut = false) => decoder.finish(cut) };
  }

  /** The library over the same file, with or without its control tokens, for the beginning of a text or what follows. */
  #library(control: boolean, begins: boolean): Library {
    const name = `${control} ${begins}`;
    const library = this.#libraries.get(name) ?? this.#newLibrary(control, begins);
    this.#libraries.set(name, library);
    return library;
  }

  #newLibrary(control: boolean, begins: boolean): Library {
    const added = list(this.#whole['added_tokens']).filter((token) => control || token['special'] !== true);
    const settings = record(this.#whole['model'], 'model');
    const library = new Library(
      {
        ...this.#whole,
        model: { ...settings, vocab: {}, merges: [] }, // it would take half a second for a large one, at once
        added_tokens: added,
        pre_tokenizer: asInPython(this.#whole['pre_tokenizer']),
        post_processor: null,
        decoder: null,
        normalizer: begins ? (this.#whole['normalizer'] ?? null) : withoutPrepend(this.#whole['normalizer']),
      },
      {},
    );
    if (library.model !== null) this.#fill(library.model, settings['unk_token'], control);
    return library;
  }

  #fill(model: NonNullable<Library['model']>, unknown: unknown, control: boolean): void {
    const ids = control ? new Map(this.#tables.ids) : this.#tables.ids;
    for (const [text, token] of model.tokens_to_ids) ids.set(text, token);
    const unk_token_id = typeof unknown === 'string' ? ids.get(unknown) : undefined;
    Object.assign(model, { tokens_to_ids: ids, bpe_ranks: this.#tables.ranks, unk_token_id });
    if (this.#dropped.size === 0) return;
    // The library would keep such a byte as a border between merges; the Python library leaves it out before.
    const encode = model.encode.bind(model);
    const keep = (character: string) => !this.#dropped.has(character);
    model.encode = (words) => encode(words.map((word) => Array.from(word).filter(keep).join('')));
  }
}

// ---- the file ----

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function record(value: unknown, name: string): Record<string, unknown> {
  if (isRecord(value)) return value;
  throw new TernError('bad-file', `the tokenizer cannot be used: expected an object as ${name}`);
}

function list(value: unknown): Record<string, unknown>[] {
  return Array.isArray(value) ? value.map((item: unknown) => record(item, 'an item of a list')) : [];
}

/** Gives way now and then. */
function* tablesOf(whole: Record<string, unknown>): Generator<void, Tables, void> {
  const model = record(whole['model'], 'model');
  const merges: unknown = model['merges'];
  if (!Array.isArray(merges) || merges.length === 0) {
    throw new TernError('bad-file', 'the tokenizer has no merges: convert the model again with its tokenizer.json');
  }
  const unknown = model['unk_token'];
  const pieces: Piece[] = [];
  const ids = new Map<string, number>();
  const vocabulary = record(model['vocab'], 'model.vocab');
  for (const [i, text] of Object.keys(vocabulary).entries()) {
    const token = slot(vocabulary[text]);
    pieces[token] = { text, kind: text === unknown ? 'control' : 'text' };
    ids.set(text, token);
    if (i % kItems === 0) yield;
  }
  for (const token of list(whole['added_tokens'])) {
    pieces[slot(token['id'])] = {
      text: String(token['content']),
      kind: token['special'] === true ? 'control' : 'added',
    };
  }
  if (Object.keys(pieces).length !== pieces.length) {
    throw new TernError('bad-file', 'the tokenizer cannot be used: it has numbers of tokens without a piece');
  }
  const ranks = new Map<string, number>();
  for (const [rank, pair] of merges.entries()) {
    ranks.set(JSON.stringify(typeof pair === 'string' ? pair.split(' ', 2) : pair), rank);
    if (rank % kItems === 0) yield;
  }
  return { pieces, ids, ranks };
}

function slot(token: unknown): number {
  if (typeof token !== 'number' || !Number.isInteger(token) || token < 0 || token >= 1 << 24) {
    throw new TernError('bad-file', `the tokenizer cannot be used: ${String(token)} is no number of a token`);
  }
  return token;
}

/** \s of a regular expression is White_Space in the Python library; JavaScript's own has U+FEFF and lacks U+0085. */
function whiteSpace(pattern: string): string {
  return pattern.replace(/\\([\s\S])/g, (all, letter: string) =>
    letter === 's' ? String.raw`\p{White_Space}` : letter === 'S' ? String.raw`\P{White_Space}` : all,
  );
}

function asInPython(value: unknown): unknown {
  if (value === null || value === undefined) return null;
  const part = record(value, 'pre_tokenizer');
  if (part['type'] === 'Sequence') {
    return { ...part, pretokenizers: list(part['pretokenizers']).map(asInPython) };
  }
  const split = (regex: string) => ({
    type: 'Split',
    pattern: { Regex: whiteSpace(regex) },
    behavior: 'Isolated',
    invert: false,
  });
  if (part['type'] === 'ByteLevel' && part['use_regex'] !== false) {
    return { type: 'Sequence', pretokenizers: [split(kGpt2Split), { ...part, use_regex: false }] };
  }
  // Digits of the Python library are those of every script.
  if (part['type'] === 'Digits')
    return split(part['individual_digits'] === true ? String.raw`\p{N}` : String.raw`\p{N}+`);
  const pattern = part['type'] === 'Split' ? record(part['pattern'], 'pattern') : {};
  return typeof pattern['Regex'] === 'string' ? { ...part, pattern: { Regex: whiteSpace(pattern['Regex']) } } : part;
}

/** What puts no space before a text. */
function withoutPrepend(value: unknown): unknown {
  if (value === null || value === undefined) return null;
  const part = record(value, 'normalizer');
  if (part['type'] === 'Prepend') return null;
  if (part['type'] !== 'Sequence') return part;
  return { ...part, normalizers: list(part['normalizers']).filter((each) => each['type'] !== 'Prepend') };
}

// ---- bytes ----

/** The character that stands for a byte in pieces of bytes: printable ones for themselves, the others from U+0100 on. */
const kByteCharacters: readonly string[] = (() => {
  let hidden = 256;
  return Array.from({ length: 256 }, (_, byte) => {
    const shown = (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
    return String.fromCharCode(shown ? byte : hidden++);
  });
})();
const kByteOf: ReadonlyMap<string, number> = new Map(kByteCharacters.map((character, byte) => [character, byte]));

function bytesOf({ text, kind }: Piece, ofCharacters: boolean): Uint8Array {
  if (kind === 'control') return new Uint8Array(0);
  if (kind === 'added') return new TextEncoder().encode(text);
  if (ofCharacters) {
    const byte = /^<0x([0-9A-F]{2})>$/.exec(text)?.[1];
    return byte === undefined
      ? new TextEncoder().encode(text.replaceAll(kSpace, ' '))
      : Uint8Array.of(parseInt(byte, 16));
  }
  const bytes = Array.from(text, (character) => kByteOf.get(character));
  return bytes.every((byte) => byte !== undefined) ? Uint8Array.from(bytes) : new TextEncoder().encode(text);
}
