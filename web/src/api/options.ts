// Checks the options of a generation and turns them into the integers the engine takes.
// SPDX-License-Identifier: MIT

import { kBytes, type Codec } from '../codec.js';
import type { Sampling } from '../engine/types.js';
import { TernError, badOption } from '../errors.js';
import type { Extras } from '../extras.js';
import type { LoadOptions } from './model.js';

export interface SampleOptions {
  /** Always the most likely token; temperature and the cuts below then do not matter. Default false. */
  greedy?: boolean;
  /** Above 0, at most 100. Below 1 is safer, above 1 wilder. Default 1. */
  temperature?: number;
  /** Only the k most likely tokens, 1 to `model.info.vocabulary.size`. Default all. */
  topK?: number;
  /** Only the most likely tokens that together reach this probability, above 0, at most 1. Default 1 (all). */
  topP?: number;
  /** Only tokens at least this fraction as likely as the likeliest, from 0 to below 1. Default 0 (all). */
  minP?: number;
  /** 1 to 10; above 1, those of the last 256 tokens become less likely. Default 1. */
  repetitionPenalty?: number;
  /**
   * 'valid' (default): only bytes that continue well-formed UTF-8 are drawn, so that the text has no U+FFFD; maxBytes may
   * cut its last character. 'raw': any byte. A model whose tokens are pieces of text draws any of them, either way.
   */
  utf8?: 'valid' | 'raw';
  /** 0 to 2^64-1; the same seed gives the same bytes on every device. Default: chosen at random and reported. */
  seed?: number | bigint;
  /** Stop after this many tokens, 1 to 1,000,000,000. Default 1024. A byte model's tokens are its bytes. */
  maxTokens?: number;
  /** The same, of a byte model; others refuse it, since they cannot stop inside a token. */
  maxBytes?: number;
}

/** What to report besides the text. The bytes are the same with and without it. */
export interface TraceOptions {
  /** Where the model begins chunks, for each token of the output and of the prompt. Only hierarchical models have chunks: `model.info.stages` above 0. */
  boundaries?: boolean;
}

/** What every call that can take long takes. */
export interface CallOptions {
  /** Ends the call, which then fails with the signal's reason. */
  signal?: AbortSignal | undefined;
}

/** What every call that reads a text takes. */
export interface TextOptions extends CallOptions {
  /**
   * The names of control tokens in the text (`<s>`, say) are those tokens. Default: they are text like any other. Byte
   * models have no such tokens.
   */
  control?: boolean;
}

export interface SessionOptions {
  /** Bytes that states may take to which rewind() can go back quickly. Default 1 MiB, 0 for none. */
  checkpoints?: number;
}

export interface ScoreOptions extends TextOptions {
  /** How many of the most likely tokens to name in the place of each: 0 (default) to 256. */
  top?: number;
}

export interface GenerateOptions extends SampleOptions, TextOptions, Extras {
  trace?: TraceOptions;
}

/** The options of a generation as the engine takes them. */
export interface Order {
  readonly sampling: Sampling;
  readonly maxTokens: number;
  /** Chunk boundaries are reported. */
  readonly traced: boolean;
  /** Nothing where none is asked for. */
  readonly extras: Extras | null;
  /** As they were given. */
  readonly given: GenerateOptions;
  readonly signal: AbortSignal | undefined;
}

const kOne = 65536;
const kSeedLimit = 1n << 64n;

/** What of a model says what its options can be. */
export interface Traits {
  /** A flat model (0) has no boundaries to report, and asking for them is an error. */
  readonly stages: number;
  readonly codec: Codec;
  /** The token that ends a turn, if the model has one. */
  readonly turnEnd: number | null;
}

export function toOrder(options: GenerateOptions | undefined, { stages, codec }: Traits): Order {
  const known =
    'greedy temperature topK topP minP repetitionPenalty utf8 seed maxTokens maxBytes control signal trace stop constraint logprobs';
  const given = checked('', options, known);
  const { stop, constraint, logprobs } = given;
  toControl(given.control, codec);
  return {
    sampling: {
      greedy: toBoolean('greedy', given.greedy),
      temperatureQ16: toQ16('temperature', given.temperature ?? 1, 'a number above 0 and at most 100', 1, 100 * kOne),
      topK: toInteger('topK', given.topK ?? codec.size, 1, codec.size),
      topPQ16: toQ16('topP', given.topP ?? 1, 'a number above 0 and at most 1', 1, kOne),
      minPQ16: toQ16('minP', given.minP ?? 0, 'a number from 0 to below 1', 0, kOne - 1),
      repetitionPenaltyQ16: toQ16(
        'repetitionPenalty',
        given.repetitionPenalty ?? 1,
        'a number from 1 to 10',
        kOne,
        10 * kOne,
      ),
      seed: toSeed(given.seed ?? randomSeed()),
      raw: toRaw(given.utf8),
    },
    maxTokens: toMost(given, codec),
    traced: toTraced(given.trace, stages),
    extras: (stop ?? constraint ?? logprobs) === undefined ? null : { stop, constraint, logprobs },
    given: { ...given },
    signal: toSignal(given.signal),
  };
}

const kMostThreads = 64; // kMaxThreads in cpp/base/parallel.h

/** The options of load() with what is meant where nothing was said. `known`: those that the call takes. */
export function toLoadOrder(
  options: LoadOptions | undefined,
  known = 'signal onProgress integrity bytes runtime threads assets fetch cache resume hub',
): LoadOptions & Required<Pick<LoadOptions, 'runtime' | 'assets' | 'threads'>> {
  const given = checked('', options, known);
  const { onProgress, fetch, integrity, bytes, runtime = 'auto', threads = 1 } = given;
  for (const [name, value] of Object.entries({ onProgress, fetch })) {
    if (value !== undefined && typeof value !== 'function') throw badOption(name, 'a function', value);
  }
  if (integrity !== undefined && !/^[0-9a-f]{64}$/i.test(integrity)) {
    throw badOption('integrity', '64 hexadecimal digits (SHA-256)', integrity);
  }
  if (bytes !== undefined) toInteger('bytes', bytes, 1, Number.MAX_SAFE_INTEGER);
  if (!['auto', 'worker', 'main'].includes(runtime)) throw badOption('runtime', "'auto', 'worker' or 'main'", runtime);
  if (threads !== 'auto' && !(Number.isInteger(threads) && threads >= 1 && threads <= kMostThreads)) {
    throw badOption('threads', `'auto' or a whole number from 1 to ${kMostThreads}`, threads);
  }
  const { cache = 'auto', resume, hub } = given;
  if (!['auto', 'opfs', 'cache-api', 'memory', 'none'].includes(cache)) {
    throw badOption('cache', "'auto', 'opfs', 'cache-api', 'memory' or 'none'", cache);
  }
  toBoolean('resume', resume);
  const assets = checked('assets', given.assets, 'wasm worker');
  const places: [string, unknown][] = Object.entries({
    'assets.wasm': assets.wasm,
    'assets.worker': assets.worker,
    hub,
  });
  for (const [name, value] of places) {
    if (value !== undefined && typeof value !== 'string' && !(value instanceof URL)) {
      throw badOption(name, 'an address', value);
    }
  }
  return { ...given, signal: toSignal(given.signal), runtime, threads, assets };
}

/** As toOrder has them. `known`: those that the call takes. */
export function toTextOrder(
  options: (TextOptions & { trace?: TraceOptions }) | undefined,
  { stages, codec }: Traits,
  known = 'signal control trace',
): { readonly signal: AbortSignal | undefined; readonly control: boolean; readonly traced: boolean } {
  const { signal, control, trace } = checked('', options, known);
  return { signal: toSignal(signal), control: toControl(control, codec), traced: toTraced(trace, stages) };
}

export function toMemory(options: SessionOptions | undefined): number {
  const { checkpoints = 2 ** 20 } = checked('', options, 'checkpoints');
  return toInteger('checkpoints', checkpoints, 0, Number.MAX_SAFE_INTEGER);
}

export function toTop(top: number | undefined, codec: Codec): number {
  return toInteger('top', top ?? 0, 0, Math.min(256, codec.size));
}

function toControl(value: unknown, codec: Codec): boolean {
  const control = toBoolean('control', value);
  if (control && codec === kBytes) throw new TernError('bad-option', 'control: a byte model has no control tokens');
  return control;
}

function toMost({ maxTokens, maxBytes }: SampleOptions, codec: Codec): number {
  if (maxBytes !== undefined && (codec !== kBytes || maxTokens !== undefined)) {
    const why = codec === kBytes ? 'maxTokens is there and means the same' : 'the tokens of this model are not bytes';
    throw new TernError('bad-option', `maxBytes: ${why}: expected only maxTokens`);
  }
  return toInteger(maxBytes === undefined ? 'maxTokens' : 'maxBytes', maxTokens ?? maxBytes ?? 1024, 1, 1_000_000_000);
}

function toTraced(trace: TraceOptions | undefined, stages: number): boolean {
  const traced = toBoolean('trace.boundaries', checked('trace', trace, 'boundaries').boundaries);
  if (traced && stages === 0) {
    throw new TernError(
      'bad-option',
      'trace.boundaries: this model is flat and has no chunks; expected a hierarchical one (info.stages above 0)',
    );
  }
  return traced;
}

/** The options themselves, or none. `name`: of the option that these are part of; `known`: what there is, by name. */
export function checked<T extends object>(name: string, options: T | undefined, known: string): Partial<T> {
  const given: unknown = options; // a caller in plain JavaScript can pass anything
  if (given === undefined) return {};
  if (typeof given !== 'object' || given === null) throw badOption(name || 'options', 'an object', given);
  const names = known.split(' ');
  for (const each of Object.keys(given)) {
    if (names.includes(each)) continue;
    const [is, rest] = [names.length > 1 ? 'are' : 'is', names.join(', ')];
    throw new TernError('bad-option', `unknown option ${name && `${name}.`}${each}; known ${is} ${rest}`);
  }
  return options ?? {};
}

export function toSignal(value: unknown): AbortSignal | undefined {
  if (value === undefined || value instanceof AbortSignal) return value;
  throw badOption('signal', 'an AbortSignal', value);
}

function toBoolean(name: string, value: unknown): boolean {
  if (value === undefined || typeof value === 'boolean') return value ?? false;
  throw badOption(name, 'true or false', value);
}

/** Nearest multiple of 2^-16; a value that rounds out of the range is refused like one that lies outside it. */
function toQ16(name: string, value: unknown, expected: string, least: number, most: number): number {
  if (typeof value !== 'number' || !Number.isFinite(value)) throw badOption(name, expected, value);
  const rounded = Math.round(value * kOne);
  if (rounded < least || rounded > most) throw badOption(name, expected, value);
  return rounded;
}

export function toInteger(name: string, value: unknown, least: number, most: number): number {
  if (typeof value !== 'number' || !Number.isInteger(value) || value < least || value > most) {
    throw badOption(name, `a whole number from ${least} to ${most}`, value);
  }
  return value;
}

function toRaw(value: unknown): boolean {
  if (value === undefined || value === 'valid' || value === 'raw') return value === 'raw';
  throw badOption('utf8', "'valid' or 'raw'", value);
}

function toSeed(value: unknown): bigint {
  if (typeof value === 'bigint' && value >= 0n && value < kSeedLimit) return value;
  if (typeof value === 'number' && Number.isSafeInteger(value) && value >= 0) return BigInt(value);
  throw badOption('seed', 'a whole number from 0 to 2^53-1, or a bigint from 0 to 2^64-1', value);
}

/** 32 random bits: short enough to read out and type in. */
function randomSeed(): number {
  return crypto.getRandomValues(new Uint32Array(1))[0] ?? 0;
}
