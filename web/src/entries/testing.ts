// For tests of pages that use the package: a toy model, what it writes, and a check of every byte: 'ternlm/testing'.
// SPDX-License-Identifier: MIT

import type { Model } from '../api/model.js';
import type { CallOptions } from '../api/options.js';
import type { ModelFile } from '../api/source.js';
import { toBytes } from '../codec.js';
import { TernError, badOption } from '../errors.js';
import { fromHex, toHex, toOptions } from './streams.js';
import { readGoldens, readStreams, unpacked, type GoldenOptions, type Made, type Stream } from './vectors.js';

export type { GoldenOptions } from './vectors.js';
export { checkConformance } from './conformance.js';
export type {
  ConformanceGroup,
  ConformanceOptions,
  ConformanceProgress,
  ConformanceReport,
  Difference,
} from './conformance.js';

/** A prompt, and what a model writes after it: plain data, to be kept as JSON beside a test. */
export interface GoldenStream {
  /** Bytes as hexadecimal digits. */
  readonly prompt: string;
  /** As for generate(). */
  readonly options: Readonly<GoldenOptions>;
  /** Bytes as hexadecimal digits. */
  readonly bytes: string;
  readonly finish: string;
}

/** What recordStreams() has a model write. */
export interface Recording {
  readonly prompt: string | Uint8Array;
  readonly options: Readonly<GoldenOptions>;
}

/** A model wrote other bytes than it should. */
export class BitExactError extends Error {
  /** Where in the output; its length where it is too short. */
  readonly at: number;
  readonly stream: GoldenStream;
  /** What was written, as `stream` has it. */
  readonly found: string;

  constructor(stream: GoldenStream, found: string, finish: string) {
    const at = firstDifference(stream.bytes, found);
    const end = stream.finish === finish ? '' : `; it ended with ${finish}, expected ${stream.finish}`;
    super(
      `byte ${at} of the output is not the expected one (options ${JSON.stringify(stream.options)}): ` +
        `expected ${around(stream.bytes, at)}, found ${around(found, at)}${end}`,
    );
    this.name = 'BitExactError';
    this.at = at;
    this.stream = stream;
    this.found = found;
  }
}

const kToy = { file: 'state_space.gguf', fingerprint: 'c3ffedb056965c3a' };

/**
 * A real model of 24 KB, for load(): it is there in milliseconds and writes gibberish, well-formed and the same bytes
 * everywhere (its weights were drawn at random).
 */
export async function toyModel(): Promise<ModelFile> {
  const [stream, source] = [await toyStream(), await unpacked(kToy.file)];
  return { source, bytes: source.length, sha256: stream.sha256 };
}

/** What is known of the toy model and of the published ones; fails with `bad-option` for any other. */
export async function goldenStreams(model: Model): Promise<readonly GoldenStream[]> {
  const { fingerprint, name } = model.info;
  if (fingerprint === kToy.fingerprint) {
    const { prompt, generations } = await toyStream();
    return generations.map((made) => toGolden(prompt, { ...made, options: toOptions(made.options) }));
  }
  const golden = (await readGoldens()).find((each) => each.fingerprint === fingerprint);
  if (golden) return golden.generations.map((made) => toGolden(golden.prompt, made));
  throw badOption('model', 'the toy model or a published one (recordStreams() is for others)', name);
}

/** Has the model write, for a file that expectBitExact() is given later. Every recording needs a seed, or `greedy`. */
export async function recordStreams(
  model: Model,
  recordings: readonly Recording[],
  { signal }: CallOptions = {},
): Promise<GoldenStream[]> {
  return Promise.all(
    recordings.map(async ({ prompt, options }) => {
      if (options.seed === undefined && options.greedy !== true) {
        throw new TernError('bad-option', 'options of a recording: expected a seed or greedy, found neither');
      }
      const bytes = toBytes('prompt', prompt);
      const result = await model.generate(bytes, { ...options, signal });
      return { prompt: toHex(bytes), options, bytes: toHex(result.bytes), finish: result.finish };
    }),
  );
}

/**
 * Has the model write each of the streams, by default what is known of it (goldenStreams()), and fails with a
 * BitExactError where a byte is another, else with what generate() fails with.
 */
export async function expectBitExact(
  model: Model,
  streams?: readonly GoldenStream[],
  { signal }: CallOptions = {},
): Promise<void> {
  const expected = streams ?? (await goldenStreams(model));
  if (expected.length === 0) throw badOption('streams', 'at least one', 'none');
  const all = expected.map(({ prompt, options }) => model.generate(fromHex(prompt), { ...options, signal }));
  for (const [i, result] of (await Promise.all(all)).entries()) {
    const [stream, bytes] = [expected[i], toHex(result.bytes)];
    if (stream && (stream.bytes !== bytes || stream.finish !== result.finish)) {
      throw new BitExactError(stream, bytes, result.finish);
    }
  }
}

async function toyStream(): Promise<Stream> {
  const stream = (await readStreams()).find(({ model }) => model === kToy.file);
  if (!stream) throw new Error('the toy model was not packed');
  return stream;
}

/** A golden file calls the end of any output that was long enough by one name. */
function toGolden(prompt: string, { options, bytes, finish }: Made<GoldenOptions>): GoldenStream {
  const isCounted = options.maxTokens !== undefined && finish === 'max_bytes';
  return { prompt, options, bytes, finish: isCounted ? 'max-tokens' : finish.replaceAll('_', '-') };
}

function firstDifference(expected: string, found: string): number {
  let at = 0;
  while (at < expected.length && expected.slice(at, at + 2) === found.slice(at, at + 2)) at += 2;
  return at / 2;
}

/** The bytes from `at` on, as digits and as text. */
function around(digits: string, at: number): string {
  const from = digits.slice(2 * at, 2 * at + 32);
  return from === '' ? 'the end' : `${from} (${JSON.stringify(new TextDecoder().decode(fromHex(from)))})`;
}
