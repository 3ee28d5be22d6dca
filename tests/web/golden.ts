// Reads the golden files of tests/golden (scripts/make_golden.py describes them) for the tests of package and engine.
// SPDX-License-Identifier: MIT

import type { GenerateOptions } from '../../web/src/api/options.js';
import { existsSync, readFileSync, readdirSync } from 'node:fs';

export interface Golden {
  readonly model: string;
  readonly fingerprint: string;
  readonly prompt: string;
  /** A mask for BOS and for each byte of the prompt, in the files of hierarchical models. */
  readonly boundaries?: string;
  readonly score: { text: string; bytes: number; bits_q32: string; top1: number; top5: number };
  /** boundaries: a mask per byte, in the files of hierarchical models. */
  readonly generations: { options: GenerateOptions; bytes: string; finish: string; boundaries?: string }[];
}

const kRoot = new URL('../../', import.meta.url);
const kFolder = new URL('tests/golden/', kRoot);

/** All golden files whose model is in the checkout. */
export function goldens(): [name: string, golden: Golden][] {
  return readdirSync(kFolder)
    .filter((file) => file.endsWith('.json') && !file.endsWith('.float.json'))
    .map((file): [string, Golden] => [file, JSON.parse(readFileSync(new URL(file, kFolder), 'utf8'))])
    .filter(([, golden]) => existsSync(new URL(golden.model, kRoot)));
}

export function modelOf(golden: Golden): Uint8Array<ArrayBuffer> {
  return Uint8Array.from(readFileSync(new URL(golden.model, kRoot)));
}

/** A small model, for tests that need any model. */
export function anyModel(): Uint8Array<ArrayBuffer> {
  return Uint8Array.from(readFileSync(new URL('tiny_state.gguf', kFolder)));
}

export function fromHex(hex: string): Uint8Array<ArrayBuffer> {
  return Uint8Array.from(Buffer.from(hex, 'hex'));
}

export function toHex(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('hex');
}
