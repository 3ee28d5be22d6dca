// Checks the options of a generation and turns them into the integers the engine takes.
// SPDX-License-Identifier: MIT

import { TernError } from './errors.js';

export interface SampleOptions {
  /** Always the most likely byte; temperature and the cuts below then do not matter. Default false. */
  greedy?: boolean;
  /** Above 0, at most 100. Below 1 is safer, above 1 wilder. Default 1. */
  temperature?: number;
  /** Only the k most likely bytes, 1 to 256. Default 256 (all). */
  topK?: number;
  /** Only the most likely bytes that together reach this probability, above 0, at most 1. Default 1 (all). */
  topP?: number;
  /** Only bytes at least this fraction as likely as the likeliest, from 0 to below 1. Default 0 (all). */
  minP?: number;
  /** 1 to 10; above 1, bytes of the last 256 become less likely. Default 1. */
  repetitionPenalty?: number;
  /** 0 to 2^64-1; the same seed gives the same bytes on every device. Default: chosen at random and reported. */
  seed?: number | bigint;
  /** Stop after this many bytes, 1 to 1,000,000,000. Default 1024. */
  maxBytes?: number;
}

/** What to report besides the text. The bytes are the same with and without it. */
export interface TraceOptions {
  /** Where the model begins chunks, for each byte of the output and of the prompt. Only hierarchical models have chunks: `model.info.stages` above 0. */
  boundaries?: boolean;
}

export interface GenerateOptions extends SampleOptions {
  signal?: AbortSignal;
  trace?: TraceOptions;
}

/** The same options as the engine takes them: Q16 is 16 bits after the binary point. */
export interface EngineOptions {
  readonly greedy: boolean;
  readonly temperatureQ16: number;
  readonly topK: number;
  readonly topPQ16: number;
  readonly minPQ16: number;
  readonly repetitionPenaltyQ16: number;
  readonly seed: bigint;
  readonly maxBytes: number;
}

const kKnown = new Set<string>([
  'greedy',
  'temperature',
  'topK',
  'topP',
  'minP',
  'repetitionPenalty',
  'seed',
  'maxBytes',
  'signal',
  'trace',
]);
const kOne = 65536;
const kSeedLimit = 1n << 64n;

export function toEngineOptions(options: GenerateOptions = {}): EngineOptions {
  const given: unknown = options; // a caller in plain JavaScript can pass anything
  if (typeof given !== 'object' || given === null) throw bad('options', 'an object', given);
  for (const name of Object.keys(options)) {
    if (!kKnown.has(name))
      throw new TernError('bad-option', `unknown option ${name}; known are ${[...kKnown].join(', ')}`);
  }
  const { greedy = false, signal } = options;
  if (typeof greedy !== 'boolean') throw bad('greedy', 'true or false', greedy);
  if (signal !== undefined && !(signal instanceof AbortSignal)) throw bad('signal', 'an AbortSignal', signal);
  return {
    greedy,
    temperatureQ16: toQ16('temperature', options.temperature ?? 1, 'a number above 0 and at most 100', 1, 100 * kOne),
    topK: toInteger('topK', options.topK ?? 256, 1, 256),
    topPQ16: toQ16('topP', options.topP ?? 1, 'a number above 0 and at most 1', 1, kOne),
    minPQ16: toQ16('minP', options.minP ?? 0, 'a number from 0 to below 1', 0, kOne - 1),
    repetitionPenaltyQ16: toQ16(
      'repetitionPenalty',
      options.repetitionPenalty ?? 1,
      'a number from 1 to 10',
      kOne,
      10 * kOne,
    ),
    seed: toSeed(options.seed ?? randomSeed()),
    maxBytes: toInteger('maxBytes', options.maxBytes ?? 1024, 1, 1_000_000_000),
  };
}

/** Whether boundaries are to be reported. A flat model (no stages) has none, and asking for them is an error. */
export function wantsBoundaries({ trace = {} }: { trace?: TraceOptions }, stages: number): boolean {
  const given: unknown = trace;
  if (typeof given !== 'object' || given === null) throw bad('trace', 'an object', given);
  for (const name of Object.keys(trace)) {
    if (name !== 'boundaries') throw new TernError('bad-option', `unknown option trace.${name}; known is boundaries`);
  }
  const { boundaries = false } = trace;
  if (typeof boundaries !== 'boolean') throw bad('trace.boundaries', 'true or false', boundaries);
  if (boundaries && stages === 0) {
    throw new TernError(
      'bad-option',
      'trace.boundaries: this model is flat and has no chunks; expected a hierarchical one (info.stages above 0)',
    );
  }
  return boundaries;
}

function bad(name: string, expected: string, found: unknown): TernError {
  const shown = typeof found === 'string' ? JSON.stringify(found) : String(found);
  return new TernError('bad-option', `${name} must be ${expected}, found ${shown}`);
}

/** Nearest multiple of 2^-16; a value that rounds out of the range is refused like one that lies outside it. */
function toQ16(name: string, value: unknown, expected: string, least: number, most: number): number {
  if (typeof value !== 'number' || !Number.isFinite(value)) throw bad(name, expected, value);
  const rounded = Math.round(value * kOne);
  if (rounded < least || rounded > most) throw bad(name, expected, value);
  return rounded;
}

function toInteger(name: string, value: unknown, least: number, most: number): number {
  if (typeof value !== 'number' || !Number.isInteger(value) || value < least || value > most) {
    throw bad(name, `a whole number from ${least} to ${most}`, value);
  }
  return value;
}

function toSeed(value: unknown): bigint {
  if (typeof value === 'bigint' && value >= 0n && value < kSeedLimit) return value;
  if (typeof value === 'number' && Number.isSafeInteger(value) && value >= 0) return BigInt(value);
  throw bad('seed', 'a whole number from 0 to 2^53-1, or a bigint from 0 to 2^64-1', value);
}

/** 32 random bits: short enough to read out and type in. */
function randomSeed(): number {
  return crypto.getRandomValues(new Uint32Array(1))[0] ?? 0;
}
