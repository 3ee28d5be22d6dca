// What ternlm/conformance has inside (web/vectors.js packs it): vectors, their models, golden bytes, modules.
// SPDX-License-Identifier: MIT

import type { SampleOptions } from '../api/options.js';
import { packed } from '../wasm/vectors.js';
import type { Vector } from './operations.js';

/** Version of models/SPEC.md. */
export const kSpec = '1.0';

/** What one generation must give. */
export interface Made<Options> {
  readonly options: Readonly<Options>;
  readonly bytes: string;
  readonly boundaries?: string;
  readonly finish: string;
}

/** Options of SPEC.md: reals in units of 1/65536. */
export interface StreamOptions {
  greedy?: boolean;
  temperature?: number;
  top_k?: number;
  top_p?: number;
  min_p?: number;
  penalty?: number;
  raw?: boolean;
  seed?: number;
  max_bytes: number;
}

/** What of generate()'s options has a part in the output, as JSON has it. */
export type GoldenOptions = Omit<SampleOptions, 'seed'> & { seed?: number };

/** Of streams.json. */
export interface Stream {
  readonly model: string;
  readonly sha256: string;
  readonly prompt: string;
  readonly logits_sha256: string;
  readonly boundaries: string;
  readonly bits_q32: string;
  readonly generations: readonly Made<StreamOptions>[];
}

/** Of a published model; `logits_sha256` is of those after the whole prompt. */
export interface Golden {
  readonly model: string;
  readonly sha256: string;
  readonly fingerprint: string;
  readonly prompt: string;
  readonly logits_sha256: string;
  readonly generations: readonly Made<GoldenOptions>[];
}

export function nameOf({ model }: Stream | Golden): string {
  return model.replace(/^.*\/|\.gguf$/g, '');
}

/** A file by its name. */
export async function unpacked(name: string): Promise<Uint8Array<ArrayBuffer>> {
  const text = packed[name];
  if (text === undefined) throw new Error(`${name} was not packed`);
  const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const whole = new Blob([bytes]).stream().pipeThrough(new DecompressionStream('gzip'));
  return new Uint8Array(await new Response(whole).arrayBuffer());
}

export async function readOperations(): Promise<readonly Vector[]> {
  return [...(await read('functions.json', isVector)), ...(await read('operations.json', isVector))];
}

export async function readStreams(): Promise<readonly Stream[]> {
  return read('streams.json', isStream);
}

export async function readGoldens(): Promise<readonly Golden[]> {
  return read('golden.json', isGolden);
}

/** What is packed is the repository's own: its version, and one property of each, say what it is. */
async function read<T>(name: string, isOne: (each: unknown) => each is T): Promise<readonly T[]> {
  const file: unknown = JSON.parse(new TextDecoder().decode(await unpacked(name)));
  const vectors = has(file, 'spec') && file.spec === kSpec && has(file, 'vectors') ? file.vectors : null;
  if (Array.isArray(vectors) && vectors.every(isOne)) return vectors;
  throw new Error(`${name} is not of specification ${kSpec}`);
}

const isVector = (each: unknown): each is Vector => has(each, 'name');
const isStream = (each: unknown): each is Stream => has(each, 'bits_q32');
const isGolden = (each: unknown): each is Golden => has(each, 'fingerprint');

function has<Name extends string>(value: unknown, name: Name): value is Record<Name, unknown> {
  return typeof value === 'object' && value !== null && name in value;
}
