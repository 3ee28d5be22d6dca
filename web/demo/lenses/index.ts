// The ways to look at the text. A lens is a file in this folder with one entry in kLenses.
// SPDX-License-Identifier: MIT

import type { ComponentType } from 'preact';
import type { Marks } from '../paint.js';
import type { LensName } from '../state.js';
import { chunks } from './chunks.js';
import { proof } from './proof.js';
import { read } from './read.js';
import { state } from './state.js';
import { surprise } from './surprise.js';

export interface Lens {
  readonly name: LensName;
  readonly title: string;
  /** What it says beside the text, or under it on a phone. */
  readonly Panel: ComponentType;
  /** What it colours in the text. Called whenever a signal that it reads has changed. */
  readonly marks?: () => Marks;
}

export const kLenses: readonly Lens[] = [read, surprise, chunks, state, proof];

export function lensOf(name: LensName): Lens {
  return kLenses.find((lens) => lens.name === name) ?? read;
}
