// What a generation needs for constraints, stops and probabilities of its tokens: an entry of its own, ternlm/constraints.
// SPDX-License-Identifier: MIT
//
// Loaded by the package when a generation asks for one of them; a program can import it to check constraints beforehand.

import { newDecoder, toBytes, type Codec, type Decoder, type Reading } from '../codec.js';
import { TernError, badOption } from '../errors.js';
import type { Constraint, Extras, Stop } from '../extras.js';
import { toAutomaton, toSearch, type Automaton } from './automaton.js';
import { ofJsonSchema, type JsonSchema } from './json-schema.js';
import { choice, text, type Language } from './language.js';
import { Logprobs } from './logprobs.js';
import { kAsIs, ofRegex } from './regex.js';
import { piecesOf, toTable } from './rules.js';
import { stoppingDecoder } from './stops.js';

export type { Automaton, Codec, Decoder, JsonSchema, Logprobs, Reading };

/** The automaton of a constraint. TernError 'bad-option': there is none, or no text meets it. */
export function compile(constraint: Constraint, alphabet?: ReadonlySet<number>): Automaton {
  const automaton = toAutomaton(ofConstraint(constraint), alphabet);
  if (automaton.states > 0) return automaton;
  const why = alphabet ? ' that the tokens of this model can write' : '';
  throw new TernError('bad-option', `constraint: no text meets it${why}: expected one that allows at least one text`);
}

/** Whether the text meets the constraint, from its beginning to its end. */
export function meets(automaton: Automaton, value: string | Uint8Array): boolean {
  let state = automaton.states > 0 ? 0 : undefined;
  for (const byte of toBytes('text', value)) {
    if (state !== undefined) state = automaton.next[state * automaton.classes + (automaton.classOf[byte] ?? 0)];
    if (state !== undefined && state >= automaton.states) state = undefined;
  }
  return state !== undefined && automaton.distance[state] === 0;
}

function ofConstraint(constraint: Constraint): Language {
  const given = Object.entries<unknown>({ ...constraint }).filter(([, value]) => value !== undefined);
  const [kind, value] = given.length === 1 ? (given[0] ?? []) : [];
  if (kind === 'regex' && (typeof value === 'string' || value instanceof RegExp)) {
    return ofRegex(value, { name: 'constraint.regex', anchors: 'whole', character: kAsIs });
  }
  if (kind === 'jsonSchema') return ofJsonSchema(value);
  if (kind === 'choices' && Array.isArray(value) && value.length > 0) {
    const texts: unknown[] = value;
    if (texts.every((each) => typeof each === 'string')) return choice(...texts.map(text));
  }
  throw badOption('constraint', '{ regex }, { jsonSchema } or { choices: [texts] }', constraint);
}

function ofStop(stop: Stop): Language {
  const all = Array.isArray(stop) ? stop : [stop];
  return choice(
    ...all.map((each: unknown): Language => {
      if (each instanceof RegExp) return ofRegex(each, { name: 'stop', anchors: 'refused', character: kAsIs });
      if (typeof each === 'string' || each instanceof Uint8Array)
        return { kind: 'bytes', bytes: toBytes('stop', each) };
      throw badOption('stop', 'texts and regular expressions', each);
    }),
  );
}

/** All that was asked for, ready for the engine and for those who read the output. Called by a session. */
export class Aid {
  /** For the engine; null where it needs none. */
  readonly rules: Uint32Array<ArrayBuffer> | null;
  readonly logprobs: Logprobs | null;
  readonly #codec: Codec;
  readonly #stop: Automaton | null;
  readonly #isConstrained: boolean;

  constructor({ stop, constraint, logprobs }: Extras, codec: Codec) {
    this.#codec = codec;
    this.#isConstrained = constraint !== undefined;
    const wanted = logprobs === undefined || logprobs === false ? null : toTop(logprobs, codec);
    this.logprobs = wanted === null ? null : new Logprobs(codec, wanted);
    const isEmpty = Array.isArray(stop) && stop.length === 0;
    const language = stop === undefined || isEmpty ? null : ofStop(stop);
    this.#stop = language && toAutomaton(language);
    if (this.#stop?.distance[0] === 0) throw badOption('stop', 'no text that is empty', stop);
    const search = language && this.#stop && this.#stop.states > 0 ? toSearch(language) : null;
    const pieces = search || constraint !== undefined ? piecesOf(codec) : null;
    const rule = constraint === undefined || !pieces ? null : compile(constraint, pieces.alphabet);
    this.rules = pieces && toTable(rule, search, pieces);
  }

  /** As newDecoder() makes one. */
  decoder(before: Uint32Array): Decoder {
    const begins = before.length === 0;
    if (this.#isConstrained) before = new Uint32Array(0); // it goes on with no character that was begun
    return this.#stop
      ? stoppingDecoder(this.#codec, before, begins, this.#stop)
      : newDecoder(this.#codec, before, begins);
  }
}

function toTop(logprobs: unknown, codec: Codec): number {
  if (logprobs === true) return 0;
  const most = Math.min(codec.size, 256);
  if (typeof logprobs === 'number' && Number.isInteger(logprobs) && logprobs >= 0 && logprobs <= most) return logprobs;
  throw badOption('logprobs', `true or a whole number from 0 to ${most}`, logprobs);
}
