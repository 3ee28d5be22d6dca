// JSON Schema as a language: the JSON texts that are valid, written compactly, properties in the order of the schema.
// SPDX-License-Identifier: MIT
//
// Every text of the language is valid; not every valid text is in it: numbers have at most 15 digits before and after the
// point, there is at most one space, after a comma or colon, and properties that the schema does not name are not written.

import { TernError, badOption } from '../errors.js';
import {
  choice,
  intersection,
  complement,
  kEmpty,
  kLastCodePoint,
  optional,
  repeat,
  sequence,
  text,
  type Language,
  type Range,
} from './language.js';
import { kAsIs, ofRegex } from './regex.js';

/** As the schema of draft 2020-12 has it, or older ones; what is understood of it says kKnown. */
export type JsonSchema = boolean | { readonly [keyword: string]: unknown };

/** Say nothing about which texts are valid. */
const kNotes =
  '$schema $id $comment $defs definitions title description default examples deprecated readOnly writeOnly';

/** Keywords that there are for each type, beside those for all. */
const kKnown: Readonly<Record<string, string>> = {
  object: 'properties required additionalProperties',
  array: 'items minItems maxItems',
  string: 'pattern minLength maxLength format',
  number: 'minimum maximum exclusiveMinimum exclusiveMaximum',
  integer: 'minimum maximum exclusiveMinimum exclusiveMaximum',
  boolean: '',
  null: '',
};

type Keywords = Readonly<Record<string, unknown>>;

/** TernError 'bad-option': no schema, or with a keyword that no automaton can be made of; says where. */
export function ofJsonSchema(schema: unknown): Language {
  return new Reader(schema).read(schema, '', []);
}

function isKeywords(value: unknown): value is Keywords {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

class Reader {
  readonly #root: unknown;

  constructor(root: unknown) {
    this.#root = root;
  }

  /** `path`: where in the schema; `refs`: those that led here. */
  read(schema: unknown, path: string, refs: readonly string[]): Language {
    if (!isKeywords(schema)) throw badOption(`jsonSchema${path}`, 'a schema that says a type', schema);
    const { $ref, anyOf, oneOf, allOf, type, ...rest } = schema;
    const enumerated = 'const' in schema ? [schema['const']] : schema['enum'];
    if ($ref !== undefined) {
      this.#refuseOthers(schema, '$ref', path);
      return this.#follow($ref, path, refs);
    }
    if (enumerated !== undefined) {
      this.#refuseOthers(schema, 'const enum type', path);
      if (!Array.isArray(enumerated)) throw badOption(`jsonSchema${path}/enum`, 'a list', enumerated);
      const values = enumerated.filter(
        (value) => type === undefined || [type].flat().some((each) => isOf(value, each)),
      );
      return choice(...values.map((value) => text(JSON.stringify(value))));
    }
    for (const [name, list] of Object.entries({ anyOf, oneOf, allOf })) {
      if (list === undefined) continue;
      this.#refuseOthers(schema, `${name} type`, path);
      if (!Array.isArray(list) || (name === 'allOf' && list.length !== 1)) {
        throw badOption(`jsonSchema${path}/${name}`, name === 'allOf' ? 'a list of one schema' : 'a list', list);
      }
      return choice(...list.map((each, i) => this.read(each, `${path}/${name}/${i}`, refs)));
    }
    const types = [type ?? guess(rest)].flat();
    const all = types.map((each) => (typeof each === 'string' ? (kKnown[each] ?? '') : '')).join(' ');
    this.#refuseOthers(schema, `type ${all}`, path);
    return choice(...types.map((each) => this.#ofType(each, rest, path, refs)));
  }

  #refuseOthers(schema: Keywords, known: string, path: string): void {
    const names = `${known} ${kNotes}`.split(' ');
    const other = Object.keys(schema).find((name) => !names.includes(name) && schema[name] !== undefined);
    if (other === undefined) return;
    const expected = known.split(' ').filter((name) => name !== '');
    throw new TernError(
      'bad-option',
      `jsonSchema${path}/${other} cannot be part of a constraint here: expected ${expected.join(', ')}`,
    );
  }

  #follow($ref: unknown, path: string, refs: readonly string[]): Language {
    if (typeof $ref !== 'string' || !/^#(\/|$)/.test($ref)) {
      throw badOption(`jsonSchema${path}/$ref`, 'a place in the same schema (#/$defs/…)', $ref);
    }
    if (refs.includes($ref)) {
      throw new TernError(
        'bad-option',
        `jsonSchema${path}/$ref: ${$ref} contains itself, and no finite automaton counts how deep: write as many levels as there shall be`,
      );
    }
    let place: unknown = this.#root;
    for (const part of $ref.split('/').slice(1)) {
      const name = decodeURIComponent(part).replaceAll('~1', '/').replaceAll('~0', '~');
      place = isKeywords(place) && Object.hasOwn(place, name) ? place[name] : undefined;
    }
    if (place === undefined) throw badOption(`jsonSchema${path}/$ref`, 'a place that there is', $ref);
    return this.read(place, $ref.slice(1), [...refs, $ref]);
  }

  #ofType(type: unknown, keywords: Keywords, path: string, refs: readonly string[]): Language {
    switch (type) {
      case 'object':
        return this.#ofObject(keywords, path, refs);
      case 'array':
        return this.#ofArray(keywords, path, refs);
      case 'string':
        return ofString(keywords, path);
      case 'number':
        return ofNumber(keywords, path);
      case 'integer':
        return ofInteger(keywords, path);
      case 'boolean':
        return choice(text('true'), text('false'));
      case 'null':
        return text('null');
      default:
        throw badOption(`jsonSchema${path}/type`, Object.keys(kKnown).join(', '), type);
    }
  }

  #ofObject(
    { properties = {}, required = [], additionalProperties }: Keywords,
    path: string,
    refs: readonly string[],
  ): Language {
    if (!isKeywords(properties)) throw badOption(`jsonSchema${path}/properties`, 'an object', properties);
    if (!Array.isArray(required)) throw badOption(`jsonSchema${path}/required`, 'a list of names', required);
    if (isKeywords(additionalProperties) && Object.keys(additionalProperties).length > 0) {
      throw badOption(
        `jsonSchema${path}/additionalProperties`,
        'true or false: others are not written',
        additionalProperties,
      );
    }
    const unknown: unknown = required.find((name) => typeof name !== 'string' || !Object.hasOwn(properties, name));
    if (unknown !== undefined) throw badOption(`jsonSchema${path}/required`, 'names of properties', unknown);
    const all = Object.entries(properties).map(([name, schema]) => ({
      isRequired: required.includes(name),
      one: sequence(text(`${JSON.stringify(name)}:`), kSpace, this.read(schema, `${path}/properties/${name}`, refs)),
    }));
    const after = (i: number): Language[] =>
      all.slice(i + 1).map(({ isRequired, one }) => repeat(sequence(kComma, one), isRequired ? 1 : 0, 1));
    const begin = all.findIndex(({ isRequired }) => isRequired);
    const firsts = all.slice(0, begin < 0 ? all.length : begin + 1).map(({ one }, i) => sequence(one, ...after(i)));
    const none = begin < 0 ? [kEmpty] : [];
    return sequence(text('{'), choice(...firsts, ...none), text('}'));
  }

  #ofArray({ items, ...keywords }: Keywords, path: string, refs: readonly string[]): Language {
    if (items === undefined) throw badOption(`jsonSchema${path}/items`, 'a schema that says a type', items);
    const item = this.read(items, `${path}/items`, refs);
    const [least, most] = countsOf(keywords, 'minItems', 'maxItems', path);
    const more = repeat(sequence(kComma, item), Math.max(0, least - 1), most - 1);
    const list = most === 0 ? kEmpty : sequence(item, more);
    return sequence(text('['), least === 0 ? optional(list) : list, text(']'));
  }
}

const kSpace = optional(text(' '));
const kComma = sequence(text(','), kSpace);

function guess(keywords: Keywords): string | undefined {
  return Object.keys(kKnown).find((type) =>
    (kKnown[type] ?? '').split(' ').some((name) => name !== '' && name in keywords),
  );
}

function isOf(value: unknown, type: unknown): boolean {
  if (type === 'integer') return Number.isInteger(value);
  if (type === 'null' || type === 'array') return type === 'null' ? value === null : Array.isArray(value);
  return type === 'object' ? isKeywords(value) : typeof value === type;
}

function countsOf(keywords: Keywords, least: string, most: string, path: string): [number, number] {
  const [low = 0, high = Infinity] = [keywords[least], keywords[most]];
  for (const [name, value] of Object.entries({ [least]: low, [most]: high })) {
    if (typeof value !== 'number' || value < 0 || (value !== Infinity && !Number.isInteger(value))) {
      throw badOption(`jsonSchema${path}/${name}`, 'a whole number', value);
    }
  }
  if (!(Number(low) <= Number(high))) throw badOption(`jsonSchema${path}/${most}`, `${least} or more`, high);
  return [Number(low), Number(high)];
}

// ---- strings ----

/** Control characters, the quote and the backslash are written with an escape. */
const kEscaped: readonly Range[] = [
  [0, 0x1f],
  [0x22, 0x22],
  [0x5c, 0x5c],
];
const kPlain = complement(kEscaped);

/** A character of these inside quotes: JSON.stringify() writes them so. */
function inQuotes(ranges: readonly Range[]): Language {
  const escapes = intersection(ranges, kEscaped).flatMap(([first, last]) =>
    Array.from({ length: last - first + 1 }, (_, i) =>
      text(JSON.stringify(String.fromCharCode(first + i)).slice(1, -1)),
    ),
  );
  return choice({ kind: 'character', ranges: intersection(ranges, kPlain) }, ...escapes);
}

/** \n and \t, and no other control character. */
const kLetters: readonly Range[] = [
  [0x09, 0x0a],
  [0x20, 0x7e],
  [0xa0, kLastCodePoint],
];

const kDate = String.raw`\d{4}-(0[1-9]|1[0-2])-(0[1-9]|1\d|2[0-8])`; // a day that every month has
const kTime = String.raw`([01]\d|2[0-3]):[0-5]\d:[0-5]\d(\.\d{1,6})?(Z|[+-]([01]\d|2[0-3]):[0-5]\d)`;
const kFormats: Readonly<Record<string, string>> = {
  date: `^${kDate}$`,
  time: `^${kTime}$`,
  'date-time': `^${kDate}T${kTime}$`,
  uuid: '^[0-9a-f]{8}-[0-9a-f]{4}-[1-8][0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$',
  email: String.raw`^[A-Za-z0-9_+-]+(\.[A-Za-z0-9_+-]+)*@([A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?\.)+[A-Za-z]{2,}$`,
};

function ofString(keywords: Keywords, path: string): Language {
  const { pattern, format } = keywords;
  const [least, most] = countsOf(keywords, 'minLength', 'maxLength', path);
  const has = [pattern !== undefined || format !== undefined, least > 0 || most < Infinity].filter(Boolean);
  if (has.length > 1) {
    throw badOption(`jsonSchema${path}`, 'pattern or a length, of which an expression says both ({2,5})', keywords);
  }
  const known = typeof format === 'string' && Object.hasOwn(kFormats, format) ? kFormats[format] : undefined;
  if (format !== undefined && pattern === undefined && known === undefined) {
    throw badOption(`jsonSchema${path}/format`, `${Object.keys(kFormats).join(', ')}, or a pattern`, format);
  }
  const expression = pattern ?? known;
  if (expression === undefined) return quoted(repeat(inQuotes(kLetters), least, most));
  if (typeof expression !== 'string') throw badOption(`jsonSchema${path}/pattern`, 'a text', expression);
  return quoted(ofRegex(expression, { name: `jsonSchema${path}/pattern`, anchors: 'part', character: inQuotes }));
}

function quoted(inside: Language): Language {
  return sequence(text('"'), inside, text('"'));
}

// ---- numbers ----

const kMostDigits = 15; // of which a number of JavaScript keeps each
const kMostInteger = 10 ** kMostDigits - 1;

interface Bounds {
  readonly low: number;
  readonly high: number;
  /** The bound itself is none of the numbers. */
  readonly isAboveLow: boolean;
  readonly isBelowHigh: boolean;
}

function boundsOf(keywords: Keywords, path: string): Bounds {
  const bound = (name: string, none: number): number => {
    const value = keywords[name] ?? none;
    if (typeof value === 'number') return value;
    throw badOption(`jsonSchema${path}/${name}`, 'a number', value);
  };
  const [minimum, above] = [bound('minimum', -Infinity), bound('exclusiveMinimum', -Infinity)];
  const [maximum, below] = [bound('maximum', Infinity), bound('exclusiveMaximum', Infinity)];
  return {
    low: Math.max(minimum, above),
    high: Math.min(maximum, below),
    isAboveLow: above >= minimum && above > -Infinity,
    isBelowHigh: below <= maximum && below < Infinity,
  };
}

function ofInteger(keywords: Keywords, path: string): Language {
  const { low, high, isAboveLow, isBelowHigh } = boundsOf(keywords, path);
  const least = Math.ceil(low) + (isAboveLow && Number.isInteger(low) ? 1 : 0);
  const most = Math.floor(high) - (isBelowHigh && Number.isInteger(high) ? 1 : 0);
  return integers(least, most);
}

/** Also with a fraction; where a bound is no whole number, those between it and the next whole one are not written. */
function ofNumber(keywords: Keywords, path: string): Language {
  const { low, high, isAboveLow, isBelowHigh } = boundsOf(keywords, path);
  const fraction = ofRegex(String.raw`\.[0-9]{1,15}`, { name: 'number', anchors: 'whole', character: kAsIs });
  const notZero = ofRegex(String.raw`\.[0-9]{0,14}[1-9]`, { name: 'number', anchors: 'whole', character: kAsIs });
  // n and a fraction are n to n + 1, and -n and a fraction -n - 1 to -n: the end towards zero without, the other with
  // care, since the fraction is below 1.
  const part = (sign: string, least: number, most: number, isAbove: boolean): Language[] => {
    const [from, to] = [Math.max(0, Math.ceil(least)), Math.min(kMostInteger, Math.ceil(most) - 1)];
    if (from > to) return [];
    const some = isAbove && from === least ? [sequence(text(sign), integers(from, from), notZero)] : [];
    const all = sequence(text(sign), integers(some.length > 0 ? from + 1 : from, to), fraction);
    return [...some, all];
  };
  return choice(
    ofInteger(keywords, path),
    ...part('', low, Math.floor(high), isAboveLow),
    ...part('-', -high, Math.floor(-low), isBelowHigh),
  );
}

/** From least to most, as JSON writes them. */
function integers(least: number, most: number): Language {
  const [low, high] = [Math.max(least, -kMostInteger), Math.min(most, kMostInteger)];
  const parts: Language[] = [];
  if (low < 0 && low <= high) parts.push(sequence(text('-'), naturals(Math.max(1, -high), -low)));
  if (high >= 0 && low <= high) parts.push(naturals(Math.max(0, low), high));
  return choice(...parts);
}

function naturals(low: number, high: number): Language {
  const parts: Language[] = [];
  for (let digits = String(low).length; digits <= String(high).length; digits++) {
    const [from, to] = [Math.max(low, digits === 1 ? 0 : 10 ** (digits - 1)), Math.min(high, 10 ** digits - 1)];
    if (from <= to) parts.push(between(String(from), String(to)));
  }
  return choice(...parts);
}

/** The numbers from `low` to `high`, which have as many digits. */
function between(low: string, high: string): Language {
  const [first, last] = [low.charCodeAt(0), high.charCodeAt(0)];
  const digit = (from: number, to: number): Language => ({ kind: 'character', ranges: [[from, to]] });
  if (low.length === 1) return digit(first, last);
  const [lows, highs] = [low.slice(1), high.slice(1)];
  if (/^0*$/.test(lows) && /^9*$/.test(highs)) {
    return sequence(digit(first, last), repeat(digit(0x30, 0x39), lows.length, lows.length));
  }
  if (first === last) return sequence(digit(first, first), between(lows, highs));
  const [zeros, nines] = ['0'.repeat(lows.length), '9'.repeat(lows.length)];
  return choice(
    sequence(digit(first, first), between(lows, nines)),
    ...(first + 1 < last ? [sequence(digit(first + 1, last - 1), between(zeros, nines))] : []),
    sequence(digit(last, last), between(zeros, highs)),
  );
}
