// A generation that was interrupted, as a text to keep: what it takes to go on with the same bytes, here or elsewhere.
// SPDX-License-Identifier: MIT

import type { Sampling } from '../engine/types.js';
import { TernError, describe } from '../errors.js';
import type { Extras } from '../extras.js';
import { fromPortable, isPortable, toPortable } from '../portable.js';

export interface Checkpoint {
  /** The session, after `tokens`: as save() gives it. */
  readonly state: Uint8Array<ArrayBuffer>;
  readonly sampling: Sampling;
  readonly maxTokens: number;
  readonly traced: boolean;
  readonly extras: Extras | null;
  /** The last tokens before the output. */
  readonly before: Uint32Array<ArrayBuffer>;
  /** The output so far. */
  readonly tokens: Uint32Array<ArrayBuffer>;
  readonly boundaries: Uint8Array<ArrayBuffer> | null;
  /** Of a model's own generation, what it was asked for. */
  readonly origin: { readonly prompt: string | Uint8Array | Uint32Array | null; readonly options: object };
}

const kKind = 'ternlm checkpoint 1';

export function write(checkpoint: Checkpoint): string {
  return JSON.stringify(toPortable({ kind: kKind, ...checkpoint }));
}

/** TernError 'bad-option': not what write() made. Whether the model is the one it was made with, restoring says. */
export function read(text: string): Checkpoint {
  let value: unknown;
  try {
    const json: unknown = JSON.parse(text);
    value = isPortable(json) ? fromPortable(json) : null;
  } catch (error) {
    throw new TernError('bad-option', `the checkpoint is damaged: ${describe(error)}`, { cause: error });
  }
  if (isCheckpoint(value)) {
    const { state, sampling, maxTokens, traced, extras, before, tokens, boundaries, origin } = value;
    return { state, sampling, maxTokens, traced, extras, before, tokens, boundaries, origin };
  }
  throw new TernError('bad-option', 'the checkpoint is damaged: expected what checkpoint() gave');
}

function isCheckpoint(value: unknown): value is Checkpoint {
  if (!isObject(value)) return false;
  const { kind, state, sampling, maxTokens, traced, extras, before, tokens, boundaries, origin } = value;
  return (
    kind === kKind &&
    state instanceof Uint8Array &&
    isSampling(sampling) &&
    isWhole(maxTokens) &&
    typeof traced === 'boolean' &&
    (extras === null || isObject(extras)) &&
    before instanceof Uint32Array &&
    tokens instanceof Uint32Array &&
    (traced ? boundaries instanceof Uint8Array && boundaries.length === tokens.length : boundaries === null) &&
    isObject(origin) &&
    isObject(origin['options']) &&
    isInput(origin['prompt'])
  );
}

function isInput(value: unknown): boolean {
  return value === null || typeof value === 'string' || value instanceof Uint8Array || value instanceof Uint32Array;
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null;
}

/** Their ranges are the engine's to check. */
function isSampling(value: unknown): value is Sampling {
  if (!isObject(value)) return false;
  const { greedy, raw, seed, temperatureQ16, topK, topPQ16, minPQ16, repetitionPenaltyQ16 } = value;
  const numbers = [temperatureQ16, topK, topPQ16, minPQ16, repetitionPenaltyQ16];
  return typeof greedy === 'boolean' && typeof raw === 'boolean' && typeof seed === 'bigint' && numbers.every(isWhole);
}

function isWhole(value: unknown): value is number {
  return typeof value === 'number' && Number.isInteger(value) && value >= 0 && value < 2 ** 32;
}
