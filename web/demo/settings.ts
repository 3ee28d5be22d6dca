// The controls of the settings panel as options of a generation.
// SPDX-License-Identifier: MIT

import type { GenerateOptions } from 'ternlm';
import { button, element, input, text } from './dom.js';

const kSliders = { temperature: 'temperature', topK: 'top-k', topP: 'top-p' } as const;

const seed = input('seed');
const slowly = input('slowly');
const marks = input('marks');

let tellSeed = (): void => undefined;

/** `onSeed` hears, now and whenever it changes, whether the reader keeps a seed. */
export function connectSettings(onSeed: (isKept: boolean) => void): void {
  tellSeed = () => onSeed(seed.value.trim() !== '');
  for (const id of Object.values(kSliders)) input(id).addEventListener('input', () => show(id));
  button('seed-clear').addEventListener('click', () => keepSeed(''));
  seed.addEventListener('input', () => tellSeed());
  // The browser says what is wrong with a seed, for which it has to be in sight.
  seed.addEventListener('invalid', () => (element('settings', HTMLDetailsElement).open = true));
  showAll();
  tellSeed();
}

export function readSettings(): GenerateOptions {
  const options: GenerateOptions = {
    temperature: input('temperature').valueAsNumber,
    topK: input('top-k').valueAsNumber,
    topP: input('top-p').valueAsNumber,
  };
  const given = seed.value.trim();
  if (/^\d{1,20}$/.test(given)) options.seed = BigInt(given);
  return options;
}

/** All but the seed: that the reader keeps or not. */
export function showSettings(options: GenerateOptions): void {
  for (const name of ['temperature', 'topK', 'topP'] as const) {
    const value = options[name];
    if (value !== undefined) input(kSliders[name]).value = String(value);
  }
  showAll();
}

export function keepSeed(value: string): void {
  seed.value = value;
  tellSeed();
}

/** Calls `react` now and whenever the reader changes it. */
export function connectMarks(react: (shown: boolean) => void): void {
  marks.addEventListener('change', () => react(marks.checked));
  react(marks.checked);
}

export const atReadingPace = (): boolean => slowly.checked;

function showAll(): void {
  for (const id of Object.values(kSliders)) show(id);
}

function show(id: string): void {
  const { value, step } = input(id);
  text(`${id}-shown`).textContent = step === '1' ? value : Number(value).toFixed(2);
}
