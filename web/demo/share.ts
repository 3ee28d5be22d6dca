// A link that tells the same story again anywhere, and knows the bytes it has to arrive at.
// SPDX-License-Identifier: MIT

import type { GenerateOptions } from 'ternlm';
import { kMostTokens } from './take.js';

export interface Shared {
  readonly prompt: string;
  readonly options: GenerateOptions;
  /** Name of the model file; empty in links of the time when there was one model. */
  readonly file: string;
  /** Its fingerprint. */
  readonly model: string;
  readonly length: number;
  /** First 8 digits of the SHA-256 of the output; empty where the browser cannot compute it. */
  readonly checksum: string;
}

/** Everything goes behind the '#', which browsers do not send to the server. */
export function toLink({ prompt, options, file, model, length, checksum }: Shared, page: string): string {
  const fields = new URLSearchParams({
    prompt,
    seed: String(options.seed),
    temperature: String(options.temperature),
    'top-k': String(options.topK),
    'top-p': String(options.topP),
    bytes: String(length),
    file,
    model,
    sha256: checksum,
  });
  const url = new URL(page);
  url.hash = fields.toString();
  return url.href;
}

/** What each field of a link has to be. */
const kFields: readonly (readonly [name: string, expected: string, isRight: (value: string) => boolean])[] = [
  ['seed', 'a whole number below 2^64', (value) => /^\d{1,20}$/.test(value) && BigInt(value) < 1n << 64n],
  ['temperature', 'a number above 0, at most 100', (value) => isReal(value, 100)],
  ['top-k', 'a whole number from 1', (value) => /^[1-9]\d{0,6}$/.test(value)],
  ['top-p', 'a number above 0, at most 1', (value) => isReal(value, 1)],
  ['bytes', `a whole number up to ${kMostTokens}`, (value) => /^\d{1,6}$/.test(value) && Number(value) <= kMostTokens],
  // The last one of a link: programs that show links add a full stop, a bracket, a quotation mark.
  ['sha256', '8 hexadecimal digits', (value) => /^([0-9a-f]{8})?[^0-9a-z]*$/i.test(value)],
];

/**
 * What a link asks for; null for an address without a story. Throws a sentence on the link that is not right.
 * `isHere`: whether the page has a model file of that name.
 */
export function fromLink(link: string, isHere: (file: string) => boolean): Shared | null {
  const { hash } = new URL(link);
  if (!hash.includes('=')) return null; // a place in the page
  const fields = new URLSearchParams(hash.slice(1));
  const field = (name: string): string => fields.get(name) ?? '';
  for (const [name, expected, isRight] of kFields) {
    if (isRight(field(name))) continue;
    const found = fields.has(name) ? JSON.stringify(field(name).slice(0, 40)) : 'none';
    throw new Error(`This link tells no story: its ${name} should be ${expected}, found ${found}.`);
  }
  const file = field('file');
  if (file !== '' && !isHere(file)) {
    throw new Error(`This link's story was told by ${JSON.stringify(file.slice(0, 60))}, a model that is not here.`);
  }
  return {
    prompt: field('prompt'),
    options: {
      seed: BigInt(field('seed')),
      temperature: Number(field('temperature')),
      topK: Number(field('top-k')),
      topP: Number(field('top-p')),
    },
    file,
    model: field('model'),
    length: Number(field('bytes')),
    checksum: field('sha256')
      .slice(0, 8)
      .toLowerCase()
      .replace(/[^0-9a-f]/g, ''),
  };
}

/** The SHA-256 of the first `length` bytes, in hexadecimal; empty where the browser cannot compute it. */
export async function checksumOf(pieces: readonly { readonly bytes: Uint8Array }[], length: number): Promise<string> {
  if (!('subtle' in crypto)) return '';
  const all = new Uint8Array(length);
  let at = 0;
  for (const { bytes } of pieces) {
    const part = bytes.subarray(0, length - at);
    all.set(part, at);
    at += part.length;
  }
  const digest = new Uint8Array(await crypto.subtle.digest('SHA-256', all));
  return Array.from(digest, (byte) => byte.toString(16).padStart(2, '0')).join('');
}

function isReal(value: string, most: number): boolean {
  return /^[\d.]+(e-?\d+)?$/.test(value) && Number(value) > 0 && Number(value) <= most;
}
