// The controls of the settings panel as options of a generation.
// SPDX-License-Identifier: MIT

import type { GenerateOptions } from 'ternlm';
import { button, element, input, text } from './dom.js';

const kSliders = { temperature: 'temperature', topK: 'top-k', topP: 'top-p' } as const;

const seed = input('seed');
const slowly = input('slowly');
const marks = input('marks');

export function connectSettings(): void {
  for (const id of Object.values(kSliders)) input(id).addEventListener('input', () => show(id));
  button('seed-clear').addEventListener('click', () => keepSeed(''));
  // The browser says what is wrong with a seed, for which it has to be in sight.
  seed.addEventListener('invalid', () => (element('settings', HTMLDetailsElement).open = true));
  showAll();
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

export function showSettings(options: GenerateOptions): void {
  for (const name of ['temperature', 'topK', 'topP'] as const) {
    const value = options[name];
    if (value !== undefined) input(kSliders[name]).value = String(value);
  }
  if (options.seed !== undefined) keepSeed(String(options.seed));
  showAll();
}

export function keepSeed(value: string): void {
  seed.value = value;
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
