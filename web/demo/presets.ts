// The beginnings that the page offers: each with a seed chosen by reading what it tells, and the SHA-256 of those bytes.
// SPDX-License-Identifier: MIT

import list from './presets.json';

export interface Preset {
  readonly name: string;
  /** Whom the story is about; the tests want them named to its end. */
  readonly hero: string;
  readonly prompt: string;
  readonly seed: number;
  readonly options: { readonly temperature: number; readonly topK: number; readonly topP: number };
  /** Of the output, which is the whole story: it ends there by itself. */
  readonly bytes: number;
  readonly sha256: string;
  /** Fingerprint of the model that tells it. */
  readonly model: string;
}

export const presets: readonly Preset[] = list;
