// Regular expressions of JavaScript as languages: what a finite automaton can read of them; the rest is refused.
// SPDX-License-Identifier: MIT

import { RegExpParser, type AST } from '@eslint-community/regexpp';
import { TernError, describe } from '../errors.js';
import {
  choice,
  complement,
  intersection,
  kLastCodePoint,
  repeat,
  sequence,
  union,
  type Language,
  type Range,
} from './language.js';

/** How an expression is put to use. */
export interface Use {
  /** The option, for errors. */
  readonly name: string;
  /**
   * What ^ and $ are: 'whole': nothing, since all of a text must match; 'part': without them anything may come before and
   * after; 'refused'.
   */
  readonly anchors: 'whole' | 'part' | 'refused';
  /** What stands for a character of these. */
  readonly character: (ranges: readonly Range[]) => Language;
}

export const kAsIs = (ranges: readonly Range[]): Language => ({ kind: 'character', ranges });

const kDigits: Range[] = [[0x30, 0x39]];
const kWord: Range[] = [...kDigits, [0x41, 0x5a], [0x5f, 0x5f], [0x61, 0x7a]];
const kLineEnds: Range[] = [
  [0x0a, 0x0a],
  [0x0d, 0x0d],
  [0x2028, 0x2029],
];
/** WhiteSpace and LineTerminator of ECMA-262. */
const kSpaces: Range[] = [
  [0x09, 0x0d],
  [0x20, 0x20],
  [0xa0, 0xa0],
  [0x1680, 0x1680],
  [0x2000, 0x200a],
  [0x2028, 0x2029],
  [0x202f, 0x202f],
  [0x205f, 0x205f],
  [0x3000, 0x3000],
  [0xfeff, 0xfeff],
];

interface Context extends Use {
  readonly flags: string;
  readonly source: string;
}

/** TernError 'bad-option': not a regular expression, or with what no finite automaton can read. */
export function ofRegex(expression: string | RegExp, use: Use): Language {
  const source = typeof expression === 'string' ? expression : expression.source;
  const flags = typeof expression === 'string' ? 'u' : expression.flags;
  const unicode = flags.includes('u');
  const context: Context = { ...use, flags, source };
  for (const flag of 'myv') {
    if (flags.includes(flag)) throw refusal(context, `the flag ${flag}`, 'none of m, y and v');
  }
  const pattern = parse(source, { unicode }, context);
  const any = repeat(use.character([[0, kLastCodePoint]]), 0, Infinity);
  const parts = pattern.alternatives.map(({ elements }) => {
    const begins = isAnchor(elements[0], 'start');
    const ends = elements.length > (begins ? 1 : 0) && isAnchor(elements.at(-1), 'end');
    if ((begins || ends) && use.anchors === 'refused') throw refusal(context, '^ or $', 'a piece of the text alone');
    const inner = ofElements(elements.slice(begins ? 1 : 0, ends ? -1 : undefined), context);
    const isPart = use.anchors === 'part';
    return sequence(...(isPart && !begins ? [any] : []), inner, ...(isPart && !ends ? [any] : []));
  });
  return choice(...parts);
}

function parse(source: string, mode: { unicode: boolean }, context: Context): AST.Pattern {
  try {
    return new RegExpParser().parsePattern(source, 0, source.length, mode);
  } catch (error) {
    throw new TernError('bad-option', `${context.name}: no regular expression: ${describe(error)}`, { cause: error });
  }
}

function refusal({ name, source }: Context, found: string, expected: string): TernError {
  const shown = source.length > 60 ? `${source.slice(0, 60)}…` : source;
  return new TernError('bad-option', `${name}: no finite automaton for ${found} in /${shown}/: expected ${expected}`);
}

function isAnchor(element: AST.Element | undefined, kind: 'start' | 'end'): boolean {
  return element?.type === 'Assertion' && element.kind === kind;
}

function ofAlternatives(alternatives: readonly AST.Alternative[], context: Context): Language {
  return choice(...alternatives.map(({ elements }) => ofElements(elements, context)));
}

/** Without the flag u a character beyond U+FFFF is two elements. */
function ofElements(elements: readonly AST.Element[], context: Context): Language {
  const parts: Language[] = [];
  for (let i = 0; i < elements.length; i++) {
    const [element, after] = [elements[i], elements[i + 1]];
    if (!element) continue;
    if (element.type === 'Character' && after?.type === 'Character' && isPair(element.value, after.value)) {
      const value = 0x10000 + ((element.value - 0xd800) << 10) + (after.value - 0xdc00);
      parts.push(context.character([[value, value]]));
      i++;
    } else {
      parts.push(ofElement(element, context));
    }
  }
  return sequence(...parts);
}

function isPair(high: number, low: number): boolean {
  return high >= 0xd800 && high < 0xdc00 && low >= 0xdc00 && low < 0xe000;
}

function ofElement(element: AST.Element, context: Context): Language {
  switch (element.type) {
    case 'Character':
    case 'CharacterSet':
    case 'CharacterClass':
      return context.character(ofSet(element, context));
    case 'Group':
      if (element.modifiers) throw refusal(context, 'modifiers of a group', 'flags of the whole');
      return ofAlternatives(element.alternatives, context);
    case 'CapturingGroup':
      return ofAlternatives(element.alternatives, context);
    case 'Quantifier':
      return repeat(ofElement(element.element, context), element.min, element.max);
    case 'Backreference':
      throw refusal(context, 'a backreference', 'the text itself, or a choice');
    case 'Assertion': {
      const isLook = element.kind === 'lookahead' || element.kind === 'lookbehind';
      const found = isLook ? `a ${element.kind}` : element.kind === 'word' ? '\\b or \\B' : '^ or $ inside';
      throw refusal(context, found, 'an expression without it');
    }
    case 'ExpressionCharacterClass':
      throw refusal(context, 'a class of the flag v', 'one that lists its characters');
  }
}

type Element = AST.Character | AST.CharacterSet | AST.CharacterClass | AST.CharacterClassElement;

function ofSet(element: Element, context: Context): Range[] {
  switch (element.type) {
    case 'Character':
      return ofCase([[element.value, element.value]], context);
    case 'CharacterClassRange':
      return ofCase([[element.min.value, element.max.value]], context);
    case 'CharacterClass': {
      const ranges = union(element.elements.flatMap((each: AST.CharacterClassElement) => ofSet(each, context)));
      return element.negate ? complement(ranges) : ranges;
    }
    case 'CharacterSet':
      switch (element.kind) {
        case 'any':
          return context.flags.includes('s') ? [[0, kLastCodePoint]] : complement(kLineEnds);
        case 'property': // another version of Unicode would be another language
          throw refusal(context, '\\p{…}', 'the characters themselves: what \\p{…} is depends on the browser');
        default: {
          const ranges = { digit: kDigits, word: kWord, space: kSpaces }[element.kind];
          return element.negate ? complement(ranges) : [...ranges];
        }
      }
    default:
      throw refusal(context, `a ${element.type}`, 'a class that lists its characters');
  }
}

/** With the flag i, the letters that have one other case each; ſ and the like, of which Unicode has few, stay alone. */
function ofCase(ranges: Range[], context: Context): Range[] {
  for (const [first, last] of ranges) {
    const isHalf = first === last && first >= 0xd800 && first <= 0xdfff;
    if (isHalf) throw refusal(context, 'half of a character beyond U+FFFF', 'the flag u');
  }
  if (!context.flags.includes('i')) return ranges;
  const others = kCased.flatMap(([upper, lower]) => {
    const by = lower[0] - upper[0];
    const move = (from: Range, shift: number): Range[] =>
      intersection([from], ranges).map(([first, last]) => [first + shift, last + shift]);
    return [...move(upper, by), ...move(lower, -by)];
  });
  return union([...ranges, ...others]);
}

/** Latin, Greek and Cyrillic letters whose cases are equally far apart. */
const kCased: readonly (readonly [upper: Range, lower: Range])[] = [
  [[0x41, 0x5a], [0x61, 0x7a]],
  [[0xc0, 0xd6], [0xe0, 0xf6]],
  [[0xd8, 0xde], [0xf8, 0xfe]],
  [[0x391, 0x3a1], [0x3b1, 0x3c1]],
  [[0x3a3, 0x3ab], [0x3c3, 0x3cb]],
  [[0x410, 0x42f], [0x430, 0x44f]],
  [[0x400, 0x40f], [0x450, 0x45f]],
]; // prettier-ignore
