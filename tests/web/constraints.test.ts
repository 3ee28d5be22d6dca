// Constraints become automata that read exactly the texts they are meant to, and are refused where none can.
// SPDX-License-Identifier: MIT

import { describe, expect, test } from 'vitest';
import { kNone, toAutomaton, toSearch, type Automaton } from '../../web/src/constraints/automaton.js';
import { Aid, compile, meets } from '../../web/src/constraints/index.js';
import { kLastCodePoint, repeat, sequence, text } from '../../web/src/constraints/language.js';
import { kAsIs, ofRegex } from '../../web/src/constraints/regex.js';
import { kBytes, type Codec } from '../../web/src/codec.js';
import type { Constraint } from '../../web/src/extras.js';

const of = (regex: string | RegExp): Automaton => compile({ regex });
const utf8 = (value: string): Uint8Array => new TextEncoder().encode(value);

/** Numbers that look random and are the same in each run. */
function generator(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
}

/** A text of the language: at random, and to the nearest end once it is long. */
function write(automaton: Automaton, next: (below: number) => number, long = 60): string {
  const bytes: number[] = [];
  for (let state = 0; ;) {
    const here = automaton.distance[state] ?? 0;
    if (here === 0 && (bytes.length >= long || next(6) === 0)) break;
    const ways = [...automaton.classOf.keys()].filter((byte) => {
      const to = automaton.next[state * automaton.classes + (automaton.classOf[byte] ?? 0)] ?? kNone;
      return to !== kNone && (bytes.length < long || (automaton.distance[to] ?? 0) < here);
    });
    if (ways.length === 0) break;
    const byte = ways[next(ways.length)] ?? 0;
    bytes.push(byte);
    state = automaton.next[state * automaton.classes + (automaton.classOf[byte] ?? 0)] ?? kNone;
  }
  return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(Uint8Array.from(bytes));
}

const kExpressions: RegExp[] = [
  /a|b*c+/u,
  /(ab|a)(bc|c)?/u,
  /[a-c]{2,4}x?/u,
  /(a{0,2}b){3}/u,
  /(?:a|ab|abc)*c/u,
  /[^ab]{1,3}/u,
  /.é?[α-ω🦊-🦒]*/u,
  /\d+(\.\d{1,2})?|\w\s\S\D\W/u,
  /[ -~]*b/u,
  /a.c/su,
  /straße|ÀÉ/iu,
  /^x(y|)z$/u,
  /🦊x/,
  /\u{1F98A}|\x41|\u0042|\cJ/u,
];

describe('a regular expression', () => {
  test.each(kExpressions)('%s reads what JavaScript matches with it from beginning to end', (expression) => {
    const automaton = of(expression);
    const whole = new RegExp(`^(?:${expression.source})$`, expression.flags);
    const next = generator(7);
    const letters = [...Array.from('abcxyzéÉα🦊🦒 \n.1ßAÀ'), '\u2028'];
    let met = 0;
    for (let n = 0; n < 800; n++) {
      const random = Array.from({ length: next(6) }, () => letters[next(letters.length)] ?? '').join('');
      const written = write(automaton, next, 5);
      for (const each of [random, written]) {
        expect([each, meets(automaton, each)]).toEqual([each, whole.test(each)]);
        met += Number(meets(automaton, each));
      }
    }
    expect(met).toBeGreaterThanOrEqual(800); // those that were written, all of them
  });

  test('reads all characters there are, and nothing that is not UTF-8', () => {
    const any = toAutomaton(kAsIs([[0, kLastCodePoint]]));
    expect(any.states).toBe(9); // as the table of cpp/text/utf8.cc has them, and the end
    for (const point of [0, 0x7f, 0x80, 0x7ff, 0x800, 0xd7ff, 0xe000, 0xffff, 0x10000, kLastCodePoint]) {
      expect(meets(any, String.fromCodePoint(point))).toBe(true);
    }
    for (const bytes of [
      [0x80],
      [0xc0, 0x80],
      [0xc1, 0xbf],
      [0xe0, 0x9f, 0xbf],
      [0xed, 0xa0, 0x80],
      [0xf0, 0x8f, 0xbf, 0xbf],
      [0xf4, 0x90, 0x80, 0x80],
      [0xff],
    ]) {
      expect(meets(any, Uint8Array.from(bytes))).toBe(false);
    }
  });

  test('reads each range of characters exactly', () => {
    const next = generator(3);
    const edges = [
      0, 0x7f, 0x80, 0x7ff, 0x800, 0xfff, 0x1000, 0xd7ff, 0xe000, 0xffff, 0x10000, 0x3ffff, 0xfffff, 0x10ffff,
    ];
    for (let n = 0; n < 200; n++) {
      const near = (): number => Math.max(0, Math.min(kLastCodePoint, (edges[next(edges.length)] ?? 0) + next(5) - 2));
      const [first = 0, last = 0] = [near(), near()].sort((a, b) => a - b);
      const automaton = toAutomaton(kAsIs([[first, last]]));
      for (const point of [first - 1, first, last, last + 1, near(), Math.floor((first + last) / 2)]) {
        if (point < 0 || point > kLastCodePoint || (point >= 0xd800 && point <= 0xdfff)) continue;
        expect([first, last, point, meets(automaton, String.fromCodePoint(point))]).toEqual([
          first,
          last,
          point,
          point >= first && point <= last,
        ]);
      }
    }
  });

  test('has the smallest automaton, the same one however it is written', () => {
    const table = ({ next, distance, classes, classOf, states }: Automaton): unknown => {
      const ways = Array.from({ length: states }, (_, state) => Array.from(classOf, (c) => next[state * classes + c]));
      return { ways, distance };
    };
    for (const [a, b] of [
      ['(a|b)*abb', '(b*a*)*abb'],
      ['ab|ac|ad', 'a[b-d]'],
      ['x{3,5}', 'xxxx?x?'],
      ['(a*)*b|a*b', 'a*b'],
      ['é|[è-ê]', '[è-ê]'],
    ]) {
      expect(table(of(a ?? ''))).toEqual(table(of(b ?? '')));
    }
    expect(of('(a|b)*abb').states).toBe(4);
  });

  test('knows how far it is to an end from everywhere', () => {
    const { next, classes, distance, states } = of(/(abc)*|x{0,3}yé/u);
    for (let state = 0; state < states; state++) {
      const ways = [...next.slice(state * classes, (state + 1) * classes)].filter((to) => to !== kNone);
      const nearest = Math.min(...ways.map((to) => 1 + (distance[to] ?? 0)));
      expect(distance[state]).toBe(distance[state] === 0 ? 0 : nearest);
    }
  });

  test.each<[string | RegExp, RegExp]>([
    [
      'a(?=b)',
      /^constraint.regex: no finite automaton for a lookahead in \/a\(\?=b\)\/: expected an expression without it$/,
    ],
    [/(?<!a)b/, /a lookbehind/],
    [/(a)\1/, /a backreference/],
    [/\bword\b/, /\\b or \\B/],
    [/a^b/, /\^ or \$ inside/],
    [/\p{L}/u, /depends on the browser/],
    [new RegExp('[\\p{L}--a]', 'v'), /the flag v/],
    [/^a$/m, /the flag m/],
    ['(?i:a)', /modifiers of a group|no regular expression/],
    ['(', /^constraint.regex: no regular expression: /],
    // eslint-disable-next-line no-misleading-character-class -- what a reader may give
    [/[🦊]/, /the flag u$/],
    ['(a{1000}){1000}', /too large an automaton/],
    ['(a|b)*a(a|b){20}', /too large an automaton/],
  ])('%s is refused with what was expected', (regex, message) => {
    expect(() => of(regex)).toThrow(
      expect.objectContaining({ code: 'bad-option', message: expect.stringMatching(message) }),
    );
  });

  test('that no text matches is refused, also where only the model has not the bytes for it', () => {
    expect(() => of('[]')).toThrow(/no text meets it: expected/);
    const letters: Codec = { ...kBytes, size: 3, decode: (tokens) => Uint8Array.from(tokens, (token) => 97 + token) };
    expect(() => new Aid({ constraint: { regex: 'abcd' } }, letters)).toThrow(
      /that the tokens of this model can write/,
    );
    const { rules } = new Aid({ constraint: { regex: 'abcd|ab+|.a' } }, letters);
    expect(rules?.[0]).toBe(5); // without a way into abcd, which has no end
  });
});

describe('choices', () => {
  test('are those texts and no others', () => {
    const automaton = compile({ choices: ['yes', 'no', 'yesterday', 'naïve 🦊'] });
    for (const each of ['yes', 'no', 'yesterday', 'naïve 🦊']) expect(meets(automaton, each)).toBe(true);
    for (const each of ['', 'y', 'yester', 'noo', 'naive 🦊']) expect(meets(automaton, each)).toBe(false);
  });

  test.each<[unknown]>([
    [{ choices: [] }],
    [{ choices: 'yes' }],
    [{ choices: ['a', 1] }],
    [{ regex: 1 }],
    [{ regex: 'a', choices: ['a'] }],
    [{}],
    [{ grammar: 'a' }],
    ['yes'],
    [null],
    [7],
  ])('and constraints of another form are refused (%j)', (constraint) => {
    expect(() => compile(constraint as Constraint)).toThrow(/^constraint must be \{ regex \}, \{ jsonSchema \} or/);
  });
});

const kPerson = {
  type: 'object',
  properties: {
    name: { type: 'string', minLength: 1, maxLength: 8 },
    age: { type: 'integer', minimum: 0, maximum: 120 },
    height: { type: 'number', minimum: -1.5, exclusiveMaximum: 3 },
    tags: { type: 'array', items: { enum: ['kind', 'small', null, 7] }, minItems: 1, maxItems: 3 },
    pet: { anyOf: [{ $ref: '#/$defs/pet' }, { type: 'null' }] },
    code: { type: 'string', pattern: '^[A-Z]"\\n?\\d{2}$' },
    happy: { type: ['boolean', 'null'] },
  },
  required: ['name', 'age', 'tags'],
  additionalProperties: false,
  $defs: { pet: { type: 'object', properties: { kind: { const: 'fox "Reineke" 🦊' }, legs: { type: 'integer' } } } },
};

interface Person {
  name: string;
  age: number;
  height?: number;
  tags: unknown[];
  pet?: { kind?: string; legs?: number } | null;
  code?: string;
  happy?: boolean | null;
}

describe('a JSON schema', () => {
  test('gives texts that are valid for it, properties in its order', () => {
    const automaton = compile({ jsonSchema: kPerson });
    const next = generator(11);
    const seen = new Set<string>();
    for (let n = 0; n < 400; n++) {
      const person: Person = JSON.parse(write(automaton, next, 40 + next(200)));
      const keys = Object.keys(person);
      seen.add(keys.join());
      expect(keys).toEqual(Object.keys(kPerson.properties).filter((key) => keys.includes(key)));
      expect(Array.from(person.name).length).toBeGreaterThanOrEqual(1);
      expect(Array.from(person.name).length).toBeLessThanOrEqual(8);
      expect(Number.isInteger(person.age) && person.age >= 0 && person.age <= 120).toBe(true);
      if (person.height !== undefined) expect(person.height >= -1.5 && person.height < 3).toBe(true);
      expect(person.tags.length >= 1 && person.tags.length <= 3).toBe(true);
      for (const tag of person.tags) expect(['kind', 'small', null, 7]).toContain(tag);
      if (person.pet?.kind !== undefined) expect(person.pet.kind).toBe('fox "Reineke" 🦊');
      if (person.code !== undefined) expect(person.code).toMatch(/^[A-Z]"\n?\d{2}$/);
    }
    expect(seen.size).toBeGreaterThan(5);
  });

  test('reads what JSON.stringify() writes of a valid value, also with a space after commas and colons', () => {
    const automaton = compile({ jsonSchema: kPerson });
    for (const person of [
      { name: 'Tom', age: 120, tags: ['kind', null] },
      { name: 'Zoë\n"', age: 0, height: -0.25, tags: [7], pet: { legs: -4 }, code: 'A"\n42', happy: null },
      { name: 'x', age: 7, tags: ['small'], pet: null },
    ]) {
      const compact = JSON.stringify(person);
      expect([compact, meets(automaton, compact)]).toEqual([compact, true]);
    }
    expect(meets(automaton, '{"name": "Tom", "age": 3, "tags": [7, null]}')).toBe(true);
    for (const wrong of [
      '{"name":"","age":1,"tags":[7]}',
      '{"name":"123456789","age":1,"tags":[7]}',
      '{"name":"x","age":121,"tags":[7]}',
      '{"name":"x","age":01,"tags":[7]}',
      '{"name":"x","age":1,"tags":[]}',
      '{"name":"x","age":1,"tags":[7,7,7,7]}',
      '{"age":1,"name":"x","tags":[7]}',
      '{"name":"x","age":1,"tags":[7],"other":1}',
      '{"name":"x","age":1,"tags":[7]',
    ]) {
      expect([wrong, meets(automaton, wrong)]).toEqual([wrong, false]);
    }
  });

  test.each([
    [{ type: 'integer', minimum: -12, maximum: 345 }, -12, 345],
    [{ type: 'integer', exclusiveMinimum: 7, exclusiveMaximum: 1009 }, 8, 1008],
    [{ type: 'integer', maximum: -95 }, -3000, -95],
    [{ type: 'integer', minimum: 0 }, 0, 3000],
    [{ type: 'number', minimum: 0.5, maximum: 2.5 }, 1, 2],
  ])('has exactly the whole numbers of %j', (jsonSchema, least, most) => {
    const automaton = compile({ jsonSchema });
    for (let n = -3000; n <= 3000; n++) {
      expect([n, meets(automaton, String(n))]).toEqual([n, n >= least && n <= most]);
    }
  });

  test('has fractions where they lie within the bounds', () => {
    const positive = compile({ jsonSchema: { type: 'number', exclusiveMinimum: 0, maximum: 2 } });
    for (const yes of ['0.5', '0.001', '1', '1.999', '2']) expect([yes, meets(positive, yes)]).toEqual([yes, true]);
    for (const no of ['0', '0.0', '0.00', '-0.5', '2.0', '2.5', '.5', '1.'])
      expect([no, meets(positive, no)]).toEqual([no, false]);
    const negative = compile({ jsonSchema: { type: 'number', minimum: -2, exclusiveMaximum: 0 } });
    for (const yes of ['-0.5', '-1.999', '-2', '-1']) expect([yes, meets(negative, yes)]).toEqual([yes, true]);
    for (const no of ['0', '-0.0', '-2.1', '0.5', '-3']) expect([no, meets(negative, no)]).toEqual([no, false]);
  });

  test.each<[string, string, string]>([
    ['date', '2026-11-27', '2026-13-01'],
    ['time', '23:59:59Z', '24:00:00Z'],
    ['date-time', '2026-11-27T02:03:04.5+01:00', '2026-11-27 02:03:04'],
    ['uuid', '123e4567-e89b-42d3-a456-426614174000', '123e4567-e89b-42d3-a456-42661417400'],
    ['email', 'fox.red@mail.example.org', 'fox@org'],
  ])('knows what a %s is', (format, right, wrong) => {
    const automaton = compile({ jsonSchema: { type: 'string', format } });
    expect(meets(automaton, `"${right}"`)).toBe(true);
    expect(meets(automaton, `"${wrong}"`)).toBe(false);
  });

  test('takes a pattern without anchors as a part of the text, as JSON Schema does', () => {
    const automaton = compile({ jsonSchema: { type: 'string', pattern: 'b+' } });
    for (const yes of ['"b"', '"abba"', '"\\"b\\\\"']) expect(meets(automaton, yes)).toBe(true);
    for (const no of ['"a"', '"b', 'b']) expect(meets(automaton, no)).toBe(false);
  });

  test.each<[unknown, RegExp]>([
    [{ $ref: '#' }, /^jsonSchema\/\$ref: # contains itself/],
    [
      { $defs: { tree: { type: 'array', items: { $ref: '#/$defs/tree' } } }, $ref: '#/$defs/tree' },
      /#\/\$defs\/tree contains itself, and no finite automaton counts how deep: write as many levels/,
    ],
    [{ $ref: '#/$defs/none' }, /\$ref must be a place that there is, found "#\/\$defs\/none"$/],
    [{ $ref: 'https://example.invalid/x' }, /must be a place in the same schema/],
    [{}, /^jsonSchema\/type must be object, array, string/],
    [true, /^jsonSchema must be a schema that says a type, found true$/],
    [{ type: 'text' }, /^jsonSchema\/type must be .*, found "text"$/],
    [{ type: 'array' }, /^jsonSchema\/items must be a schema/],
    [
      { type: 'number', multipleOf: 3 },
      /^jsonSchema\/multipleOf cannot be part of a constraint here: expected type, minimum/,
    ],
    [{ type: 'object', properties: { a: { not: {} } } }, /^jsonSchema\/properties\/a\/not cannot/],
    [{ type: 'object', required: ['a'] }, /required must be names of properties, found "a"$/],
    [{ type: 'object', additionalProperties: { type: 'string' } }, /others are not written/],
    [{ type: 'string', minLength: 3, maxLength: 2 }, /maxLength must be minLength or more, found 2$/],
    [{ type: 'string', maxLength: 1.5 }, /must be a whole number, found 1.5$/],
    [{ type: 'string', pattern: '(' }, /^jsonSchema\/pattern: no regular expression/],
    [{ type: 'string', pattern: '^(?!a)' }, /^jsonSchema\/pattern: no finite automaton for a lookahead/],
    [{ type: 'string', format: 'hostname' }, /^jsonSchema\/format must be date, time/],
    [{ type: 'integer', minimum: 3, maximum: 2 }, /no text meets it/],
    [{ enum: [] }, /no text meets it/],
  ])('that no automaton can be made of is refused (%j)', (jsonSchema, message) => {
    expect(() => compile({ jsonSchema })).toThrow(
      expect.objectContaining({ code: 'bad-option', message: expect.stringMatching(message) }),
    );
  });

  test('with many properties that may be left out stays small', () => {
    const names = Array.from({ length: 30 }, (_, i) => `property${i}`);
    const properties = Object.fromEntries(names.map((name) => [name, { type: 'boolean' }]));
    const { states } = compile({ jsonSchema: { type: 'object', properties } });
    expect(states).toBeLessThan(2000);
  });
});

describe('a search', () => {
  const ends = (expression: RegExp, value: string): number => {
    const { next, classes, classOf, distance } = toSearch(
      ofRegex(expression, { name: 'stop', anchors: 'refused', character: kAsIs }),
    );
    let state = 0;
    const bytes = utf8(value);
    for (const [at, byte] of bytes.entries()) {
      state = next[state * classes + (classOf[byte] ?? 0)] ?? kNone;
      if (distance[state] === 0) return at + 1;
    }
    return -1;
  };

  test('accepts with the first byte at which a text ends, after any bytes', () => {
    expect(ends(/abac/, 'abababacx')).toBe(8);
    expect(ends(/a+b|xx/, 'aaxab')).toBe(5);
    expect(ends(/a+/, 'xxaaa')).toBe(3);
    expect(ends(/é🦊/u, 'éé🦊')).toBe(8);
    expect(ends(/abc/, 'ababab')).toBe(-1);
  });
});

/** What a reader is shown of pieces, and what came at the end. */
function shown(stop: string | RegExp | (string | RegExp)[], pieces: readonly string[], codec = kBytes): string[] {
  const decoder = new Aid({ stop }, codec).decoder(new Uint32Array(0));
  const texts = pieces.map((piece) => decoder.push(codec.encode(utf8(piece), { control: false, begins: true })).text);
  return [...texts, (decoder.rest?.().text ?? '') + decoder.finish(true)];
}

describe('a stop', () => {
  test('and all that might become one is kept back', () => {
    expect(shown('END', ['abE', 'N', 'xEN', 'D'])).toEqual(['ab', '', 'ENx', '', '']);
    expect(shown(['\n\n', 'User:'], ['a\n', 'b\nUs', 'er', ' said'])).toEqual(['a', '\nb\n', '', 'User said', '']);
    expect(shown('END', ['abEN'])).toEqual(['ab', 'EN']);
  });

  test('is the one that began first of those that end first', () => {
    expect(shown(/ab*c|bc/, ['xabbc'])).toEqual(['x', '']);
    expect(shown(['b', 'abc'], ['xa', 'bc'])).toEqual(['x', 'a', '']);
    expect(shown(/(ab)*c/, ['zababc'])).toEqual(['z', '']);
    expect(shown(/a+b/, ['aaa', 'ab'])).toEqual(['', '', '']);
  });

  test('leaves characters whole', () => {
    const pieces = ['é', '🦊', 'x'].join('');
    expect(shown('🦊', [pieces])).toEqual(['é', '']);
    const decoder = new Aid({ stop: '🦊!' }, kBytes).decoder(new Uint32Array(0));
    const texts = [...utf8('é🦊?')].map((byte) => decoder.push([byte]).text);
    expect(texts).toEqual(['', 'é', '', '', '', '', '🦊?']);
  });

  test('inside a token ends the text inside it', () => {
    const words = ['Once', ' upon', ' a', ' time', '.'];
    const codec: Codec = {
      size: words.length,
      beginsWithSpace: false,
      encode: (bytes) => Uint32Array.of(words.indexOf(new TextDecoder().decode(bytes))),
      decode: (tokens) => utf8(Array.from(tokens, (token) => words[token]).join('')) as Uint8Array<ArrayBuffer>,
    };
    expect(shown('a t', ['Once', ' upon', ' a', ' time'], codec)).toEqual(['Once', ' upon', ' ', '', '']);
  });

  test.each<[unknown, RegExp]>([
    ['', /^stop must be no text that is empty/],
    [/x*/, /^stop must be no text that is empty/],
    [['a', ''], /no text that is empty/],
    [/^a/, /^stop: no finite automaton for \^ or \$/],
    [7, /^stop must be texts and regular expressions, found 7$/],
    [[null], /^stop must be texts and regular expressions, found null$/],
  ])('of another form is refused (%j)', (stop, message) => {
    expect(() => new Aid({ stop: stop as string }, kBytes)).toThrow(
      expect.objectContaining({ code: 'bad-option', message: expect.stringMatching(message) }),
    );
  });

  test('that is none asks for nothing', () => {
    const { rules } = new Aid({ stop: [] }, kBytes);
    expect(rules).toBeNull();
  });
});

test('counts make as many copies', () => {
  expect(toAutomaton(repeat(text('ab'), 3, 3)).states).toBe(7);
  expect(toAutomaton(sequence(repeat(text('a'), 0, 2), text('b'))).states).toBe(4);
});
