// What it takes to write an output once more, anywhere, and to prove that it is the same: ternlm/recipe.
// SPDX-License-Identifier: MIT

import type { Generation } from '../api/generation.js';
import type { Model } from '../api/model.js';
import type { GenerateOptions } from '../api/options.js';
import { TernError, badOption, describe } from '../errors.js';
import { fromPortable, isPortable, toPortable, type Portable } from '../portable.js';

export type { Portable } from '../portable.js';

/** Plain JSON. */
export interface Recipe {
  readonly version: 1;
  /** The fingerprint of the model's file (`model.info.fingerprint`). */
  readonly model: string;
  /** A text, or bytes or tokens in the form of `options`. */
  readonly prompt: Portable;
  /** As they were given, and the seed that was used. What JSON has not is an object with one key that begins with $. */
  readonly options: { readonly [name: string]: Portable };
  /** SHA-256 of the bytes of the output. */
  readonly sha256: string;
}

export interface Verdict {
  /** The same bytes, to the last one. */
  readonly proven: boolean;
  /** What was found in place of `recipe.sha256`. */
  readonly sha256: string;
  readonly text: string;
  readonly bytes: Uint8Array<ArrayBuffer>;
}

/**
 * Of a generation of model.stream() that has ended by itself, not by stop(). TernError 'bad-state': it was stopped, is of a
 * conversation, or is too long to be kept.
 */
export async function recipeOf(model: Model, generation: Generation): Promise<Recipe> {
  const { bytes, finish, from, seed } = await generation.result;
  const { prompt, options } = generation.origin;
  if (prompt === null)
    throw new TernError('bad-state', 'expected a generation of model.stream(): a session has more text');
  if (finish === 'stopped' || from > 0) {
    throw new TernError('bad-state', 'expected an output that is whole: this one was stopped, or is not kept any more');
  }
  const rest = { ...options, signal: undefined, trace: undefined, logprobs: undefined };
  const kept: Record<string, Portable> = {};
  for (const [name, value] of Object.entries({ ...rest, seed })) {
    if (value !== undefined) kept[name] = toPortable(value);
  }
  return {
    version: 1,
    model: model.info.fingerprint,
    prompt: toPortable(prompt),
    options: kept,
    sha256: await sha256(bytes),
  };
}

/**
 * Writes it once more. TernError 'bad-option': this is another model, or the recipe is none; a signal ends it with its
 * reason. `onText`: hears the text as it is written.
 */
export async function replay(
  model: Model,
  recipe: Recipe,
  { signal, onText }: { signal?: AbortSignal; onText?: (text: string) => void } = {},
): Promise<Verdict> {
  const { model: fingerprint, prompt, options, sha256: expected } = toRecipe(recipe);
  if (fingerprint !== model.info.fingerprint)
    throw badOption('recipe.model', `${model.info.fingerprint}, this model`, fingerprint);
  const given = Object.fromEntries(Object.entries(options).map(([name, value]) => [name, fromPortable(value)]));
  if (!haveNames(given)) throw badOption('recipe.options', kOptions.join(', '), given);
  const input = fromPortable(prompt);
  const isInput = typeof input === 'string' || input instanceof Uint8Array || input instanceof Uint32Array;
  if (!isInput) throw badOption('recipe.prompt', 'a text, bytes or tokens', input);
  const generation = model.stream(input, { ...given, signal });
  if (onText) for await (const { text } of generation) onText(text);
  const { text, bytes } = await generation.result;
  const found = await sha256(bytes);
  return { proven: found === expected, sha256: found, text, bytes };
}

/** `base` with the recipe behind its #, which no server sees. */
export function toURL(recipe: Recipe, base: string | URL): URL {
  const url = new URL(base);
  const bytes = new TextEncoder().encode(JSON.stringify(toRecipe(recipe)));
  const text = btoa(Array.from(bytes, (byte) => String.fromCharCode(byte)).join(''));
  url.hash = `recipe=${text.replaceAll('+', '-').replaceAll('/', '_').replace(/=+$/, '')}`;
  return url;
}

/** Null where the address has no recipe. TernError 'bad-option': one that is damaged. */
export function fromURL(url: string | URL): Recipe | null {
  const text = /[#&]recipe=([\w-]*)/.exec(new URL(url).hash)?.[1];
  if (text === undefined) return null;
  let value: unknown;
  try {
    const bytes = Uint8Array.from(atob(text.replaceAll('-', '+').replaceAll('_', '/')), (letter) =>
      letter.charCodeAt(0),
    );
    value = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes));
  } catch (error) {
    throw new TernError('bad-option', `the address has a damaged recipe: ${describe(error)}`, { cause: error });
  }
  return toRecipe(value);
}

const kOptions =
  'greedy temperature topK topP minP repetitionPenalty utf8 seed maxTokens maxBytes control stop constraint'.split(' ');

/** The value as a recipe, which may come from anywhere: what the options may be, replay() says. */
export function toRecipe(value: unknown): Recipe {
  const given: Partial<Record<string, unknown>> = isObject(value) ? value : {};
  const { version, model, prompt, options, sha256: digest, ...others } = given;
  if (version !== 1) throw badOption('recipe.version', '1', version);
  if (typeof model !== 'string' || !/^[0-9a-f]{16}$/.test(model))
    throw badOption('recipe.model', 'a fingerprint', model);
  if (typeof digest !== 'string' || !/^[0-9a-f]{64}$/.test(digest))
    throw badOption('recipe.sha256', '64 hexadecimal digits', digest);
  if (!isObject(options) || !isPortables(options)) throw badOption('recipe.options', 'an object', options);
  if (!isPortable(prompt)) throw badOption('recipe.prompt', 'a text, bytes or tokens', prompt);
  const other = Object.keys(others)[0] ?? Object.keys(options).find((name) => !kOptions.includes(name));
  if (other !== undefined) throw badOption('recipe', `without ${other}, which it does not know`, value);
  if (!('seed' in options)) throw badOption('recipe.options.seed', 'a seed', undefined);
  return { version, model, prompt, options, sha256: digest };
}

function isPortables(value: object): value is Record<string, Portable> {
  return Object.values(value).every(isPortable);
}

/** What they are, stream() checks. */
function haveNames(value: object): value is GenerateOptions {
  return Object.keys(value).every((name) => kOptions.includes(name));
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

async function sha256(bytes: Uint8Array<ArrayBuffer>): Promise<string> {
  const { crypto } = globalThis;
  if (!('subtle' in crypto)) {
    throw new TernError('unsupported', 'SHA-256 needs a secure context: expected https:// or localhost');
  }
  const digest = new Uint8Array(await crypto.subtle.digest('SHA-256', bytes));
  return Array.from(digest, (byte) => byte.toString(16).padStart(2, '0')).join('');
}
