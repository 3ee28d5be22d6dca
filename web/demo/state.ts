// What the page shows besides its text, as signals: whoever reads one is drawn again when it changes.
// SPDX-License-Identifier: MIT

import { signal } from '@preact/signals';
import type { GenerateOptions, Model } from 'ternlm';
import { ofDefault, type Choice } from './choice.js';

/** loading, broken: no model yet. ready: nothing was written. paused, finished: the model's part, so far or as a whole. */
export type Phase = 'loading' | 'broken' | 'ready' | 'writing' | 'paused' | 'finished';

export interface Problem {
  readonly title: string;
  readonly explanation: string;
  /** What the button says. */
  readonly retry: string;
}

/** Measured of what is being written; null while unknown. */
export interface Meters {
  readonly speed: number | null;
  readonly firstByteMs: number | null;
  readonly bytes: number;
  readonly seed: string;
  readonly bytesPerChunk: readonly (number | null)[];
}

export const kNoMeters: Meters = { speed: null, firstByteMs: null, bytes: 0, seed: '', bytesPerChunk: [] };

export const phase = signal<Phase>('loading');
export const problem = signal<Problem | null>(null);
export const download = signal<{ received: number; total: number | null }>({ received: 0, total: null });
/** One sentence about what has just happened. */
export const note = signal('');
export const meters = signal(kNoMeters);

export const model = signal<Model | null>(null);
export const choice = signal<Choice | null>(ofDefault());

/** What page and worker have asked of the network since the model came. */
export const requests = { page: signal(0), worker: signal(0) };

export const settings = {
  temperature: signal(0.5),
  topK: signal(40),
  topP: signal(0.95),
  /** Empty: another one each time. */
  seed: signal(''),
  slowly: signal(!matchMedia('(prefers-reduced-motion: reduce)').matches),
};

/** As options of a generation. */
export function options(): GenerateOptions {
  const { temperature, topK, topP, seed } = settings;
  const given = seed.value.trim();
  const isSeed = /^\d{1,20}$/.test(given);
  return {
    temperature: temperature.value,
    topK: topK.value,
    topP: topP.value,
    ...(isSeed && { seed: BigInt(given) }),
  };
}

/** A file that was dropped on the page, until the panel for it takes it. */
export const dropped = signal<File | null>(null);

export type LensName = 'read' | 'surprise' | 'chunks' | 'state' | 'proof';

export const lens = signal<LensName>('read');

/** The character under the pointer, in a lens that looks at single ones. */
export const hovered = signal<number | null>(null);

const kWide = matchMedia('(min-width: 62rem)');

/** Whether there is room beside the text. */
export const wide = signal(kWide.matches);
kWide.addEventListener('change', () => (wide.value = kWide.matches));
