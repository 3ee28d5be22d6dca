// What a model makes of the text of a vector: logits, cost, boundaries and what it writes, as texts to compare.
// SPDX-License-Identifier: MIT

import type { GenerateResult } from '../api/generation.js';
import type { Model } from '../api/model.js';
import type { Answer, Operations } from './operations.js';
import { nameOf, type Golden, type GoldenOptions, type Made, type Stream, type StreamOptions } from './vectors.js';

export interface Computing {
  readonly model: Model;
  /** For its digest: pages without a secure context have none of their own. */
  readonly operations: Operations;
  readonly signal: AbortSignal | undefined;
  readonly add: (answer: Answer) => void;
}

const kOne = 65536;

/** How many answers there are to it. */
export function answersTo(vector: Stream | Golden): number {
  return vector.generations.length + ('bits_q32' in vector ? 3 : 1);
}

export async function answer(vector: Stream | Golden, computing: Computing): Promise<void> {
  const { model, add } = computing;
  const name = nameOf(vector);
  const prompt = fromHex(vector.prompt);
  const isStream = 'bits_q32' in vector;
  add({
    name: `${name}: logits`,
    expected: vector.logits_sha256,
    found: await logits(prompt, isStream, computing),
  });
  if (isStream) {
    const { bits } = await model.score(prompt, { signal: computing.signal });
    add({ name: `${name}: bits`, expected: vector.bits_q32, found: String(bits * 2 ** 32) });
    add({
      name: `${name}: boundaries`,
      expected: vector.boundaries.slice(2), // the first is that of begin-of-text, which the package does not report
      found: await boundaries(prompt, computing),
    });
  }
  const generations = isStream ? vector.generations.map(toMade) : vector.generations;
  const trace = { boundaries: model.info.stages > 0 };
  const all = generations.map(({ options }) => model.generate(prompt, { ...options, trace, signal: computing.signal }));
  for (const [i, result] of (await Promise.all(all)).entries()) {
    const made = generations[i];
    if (made) add({ name: `${name}: ${show(made.options)}`, expected: expectedOf(made), found: foundOf(result, made) });
  }
}

/** Of the token after the prompt; `each`: also of those before, from the first on. */
async function logits(prompt: Uint8Array, each: boolean, { model, operations, signal }: Computing): Promise<string> {
  const session = model.session();
  try {
    const rows: Int32Array[] = [];
    const pieces = each ? Array.from(prompt, (_, at) => prompt.subarray(at, at + 1)) : [prompt];
    if (each) rows.push((await session.next({ signal })).logits);
    for (const piece of pieces) {
      await session.feed(piece, { signal });
      rows.push((await session.next({ signal })).logits);
    }
    return operations.sha256(littleEndian(rows));
  } finally {
    await session.close();
  }
}

function littleEndian(rows: readonly Int32Array[]): Uint8Array {
  const bytes = new DataView(new ArrayBuffer(4 * rows.reduce((sum, row) => sum + row.length, 0)));
  let at = 0;
  for (const row of rows) for (const logit of row) bytes.setInt32((at += 4) - 4, logit, true);
  return new Uint8Array(bytes.buffer);
}

/** A mask for each byte; a flat model has none, which is zeros. */
async function boundaries(prompt: Uint8Array, { model, signal }: Computing): Promise<string> {
  const none = new Uint8Array(prompt.length);
  const trace = { boundaries: true };
  const session = model.session();
  try {
    const found = model.info.stages > 0 ? (await session.feed(prompt, { trace, signal })).boundaries : none;
    return toHex(found ?? none);
  } finally {
    await session.close();
  }
}

function expectedOf({ bytes, boundaries = '', finish }: Made<GoldenOptions>): string {
  return [bytes, /[^0]/.test(boundaries) ? boundaries : '', finish.replaceAll('_', '-')].join(' ');
}

function foundOf({ bytes, boundaries, finish }: GenerateResult, made: Made<GoldenOptions>): string {
  const masks = boundaries && made.boundaries !== undefined ? toHex(boundaries) : '';
  // Golden files call the end of any output that was long enough by one name.
  return [toHex(bytes), /[^0]/.test(masks) ? masks : '', finish.replace('max-tokens', 'max-bytes')].join(' ');
}

function toMade(made: Made<StreamOptions>): Made<GoldenOptions> {
  return { ...made, options: toOptions(made.options) };
}

/** The options of a stream as generate() takes them. */
export function toOptions(given: StreamOptions): GoldenOptions {
  const { greedy = false, temperature = kOne, top_k = 256, top_p = kOne, min_p = 0, penalty = kOne, raw } = given;
  return {
    greedy,
    temperature: temperature / kOne,
    topK: top_k,
    topP: top_p / kOne,
    minP: min_p / kOne,
    repetitionPenalty: penalty / kOne,
    utf8: raw ? 'raw' : 'valid',
    seed: given.seed ?? 0,
    maxBytes: given.max_bytes,
  };
}

function show(options: GoldenOptions): string {
  return Object.entries(options)
    .map(([name, value]) => (value === true ? name : `${name} ${value}`))
    .join(', ');
}

export function fromHex(hex: string): Uint8Array<ArrayBuffer> {
  return Uint8Array.from(hex.match(/../g) ?? [], (digits) => Number.parseInt(digits, 16));
}

export function toHex(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');
}
