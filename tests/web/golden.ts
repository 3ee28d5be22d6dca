// Reads the golden files of tests/golden (scripts/make_golden.py describes them), and the streams of tests/conformance
// (models/SPEC.md does) as if they were such, for the tests of package and engine.
// SPDX-License-Identifier: MIT

import type { GenerateOptions } from '../../web/src/api/options.js';
import { toOptions } from '../../web/src/entries/streams.js';
import type { StreamOptions } from '../../web/src/entries/vectors.js';
import { existsSync, readFileSync, readdirSync } from 'node:fs';

export interface Golden {
  readonly model: string;
  readonly fingerprint?: string;
  readonly prompt: string;
  /** Where tokens are not bytes. */
  readonly prompt_tokens?: number[];
  /** Of the token after the prompt, Q16.16. */
  readonly logits?: number[];
  /** A mask for BOS and for each byte of the prompt, in the files of hierarchical models. */
  readonly boundaries?: string;
  readonly score: { text: string; tokens?: number[]; bits_q32: string; bytes?: number; top1?: number; top5?: number };
  /** boundaries: a mask per byte, in the files of hierarchical models. tokens: where they are not bytes. */
  readonly generations: {
    options: GenerateOptions;
    bytes: string;
    tokens?: number[];
    finish: string;
    boundaries?: string;
  }[];
}

const kRoot = new URL('../../', import.meta.url);
const kFolder = new URL('tests/golden/', kRoot);
const kVectors = new URL('tests/conformance/', kRoot);

interface Stream {
  readonly model: string;
  readonly sha256: string;
  readonly prompt: string;
  readonly boundaries: string;
  readonly bits_q32: string;
  readonly generations: { options: StreamOptions; bytes: string; boundaries: string; finish: string }[];
}

/** All golden files whose model is in the checkout, and the streams. */
export function goldens(): [name: string, golden: Golden][] {
  const found = readdirSync(kFolder)
    .filter((file) => file.endsWith('.json') && !file.endsWith('.float.json'))
    .map((file): [string, Golden] => [file, JSON.parse(readFileSync(new URL(file, kFolder), 'utf8'))])
    .filter(([, golden]) => existsSync(new URL(golden.model, kRoot)));
  return [...found, ...streams()];
}

export function streams(): [name: string, golden: Golden & { sha256: string }][] {
  const { vectors }: { vectors: Stream[] } = JSON.parse(readFileSync(new URL('streams.json', kVectors), 'utf8'));
  return vectors.map((stream) => [`the stream of ${stream.model}`, toGolden(stream)]);
}

function toGolden({ model, sha256, prompt, boundaries, bits_q32, generations }: Stream): Golden & { sha256: string } {
  const isFlat = /^0*$/.test(boundaries); // else a chunk begins with the text
  return {
    model: `tests/conformance/${model}`,
    sha256,
    prompt,
    ...(!isFlat && { boundaries }),
    score: { text: prompt, bits_q32 },
    generations: generations.map((made) => ({
      options: toOptions(made.options),
      bytes: made.bytes,
      finish: made.finish,
      ...(!isFlat && { boundaries: made.boundaries }),
    })),
  };
}

export function modelOf(golden: Pick<Golden, 'model'>): Uint8Array<ArrayBuffer> {
  return Uint8Array.from(readFileSync(new URL(golden.model, kRoot)));
}

/** A small model, for tests that need any model. */
export function anyModel(): Uint8Array<ArrayBuffer> {
  return Uint8Array.from(readFileSync(new URL('tiny_state.gguf', kFolder)));
}

export function fromHex(hex: string): Uint8Array<ArrayBuffer> {
  return Uint8Array.from(Buffer.from(hex, 'hex'));
}

/** Tokens of a byte model are bytes. */
export function toHex(bytes: Uint8Array | Uint32Array): string {
  return Buffer.from(bytes).toString('hex');
}
