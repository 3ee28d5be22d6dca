// Options of a generation as JSON: what JSON has not becomes an object with one key that begins with $.
// SPDX-License-Identifier: MIT

import { badOption } from './errors.js';

export type Portable = string | number | boolean | null | readonly Portable[] | { readonly [name: string]: Portable };

/** TernError 'bad-option': something that is no data, a function say. */
export function toPortable(value: unknown): Portable {
  if (value === null || typeof value === 'string' || typeof value === 'boolean') return value;
  if (typeof value === 'number' && Number.isFinite(value)) return value;
  if (typeof value === 'bigint') return { $bigint: String(value) };
  if (value instanceof RegExp) return { $regex: value.source, flags: value.flags };
  if (value instanceof Uint8Array) return { $bytes: toBase64(value) };
  if (value instanceof Uint32Array) return { $tokens: Array.from(value) };
  if (Array.isArray(value)) return value.map(toPortable);
  if (typeof value !== 'object') throw badOption('an option', 'plain data', value);
  const entries = Object.entries(value).filter(([, each]) => each !== undefined);
  const copy = Object.fromEntries(entries.map(([name, each]) => [name, toPortable(each)]));
  // A schema may have $ref and the like: names of its own that begin so are kept apart from ours.
  return entries.some(([name]) => kOurs.includes(name)) ? { $object: copy } : copy;
}

export function isPortable(value: unknown): value is Portable {
  if (typeof value !== 'object' || value === null) {
    return value === null || ['string', 'number', 'boolean'].includes(typeof value);
  }
  return Object.values(value).every(isPortable);
}

/** What it was made of. TernError 'bad-option': an object of ours that is damaged. */
export function fromPortable(value: Portable): unknown {
  if (typeof value !== 'object' || value === null) return value;
  if (isList(value)) return value.map(fromPortable);
  const { $bigint, $regex, $bytes, $tokens, $object, flags } = value;
  try {
    if (typeof $bigint === 'string') return BigInt($bigint);
    if (typeof $regex === 'string') return new RegExp($regex, typeof flags === 'string' ? flags : '');
    if (typeof $bytes === 'string') return fromBase64($bytes);
    if ($tokens !== undefined && isList($tokens)) return Uint32Array.from($tokens, Number);
  } catch (error) {
    throw Object.assign(badOption('an option', 'as it was written', JSON.stringify(value)), { cause: error });
  }
  const inner = typeof $object === 'object' && $object !== null && !isList($object) ? $object : value;
  return Object.fromEntries(Object.entries(inner).map(([name, each]) => [name, fromPortable(each)]));
}

const kOurs = ['$bigint', '$regex', '$bytes', '$tokens', '$object'];

function isList(value: Portable): value is readonly Portable[] {
  return Array.isArray(value);
}

export function toBase64(bytes: Uint8Array): string {
  let letters = '';
  for (const byte of bytes) letters += String.fromCharCode(byte);
  return btoa(letters);
}

export function fromBase64(text: string): Uint8Array<ArrayBuffer> {
  return Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
}
