// A recipe is enough to write the same bytes once more, and to know whether they are the same.
// SPDX-License-Identifier: MIT

import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { fromURL, recipeOf, replay, toRecipe, toURL, type Recipe } from '../../web/src/entries/recipe.js';
import { load, type GenerateOptions, type Input, type Model } from '../../web/src/index.js';
import { fromPortable, toPortable } from '../../web/src/portable.js';
import { anyModel, toHex } from './golden.js';

let model: Model;

beforeAll(async () => {
  model = await load(anyModel());
});

afterAll(async () => model.close());

const kSchema = {
  type: 'object',
  properties: { $bytes: { $ref: '#/$defs/x' } },
  $defs: { x: { enum: [1, 'zwei 🦊'] } },
};

describe('a recipe', () => {
  test.each<[Input, GenerateOptions]>([
    ['Once upon a 🦊', {}],
    ['x', { seed: 2n ** 64n - 1n, temperature: 0.7, topP: 0.9, utf8: 'raw', maxBytes: 50 }],
    [Uint8Array.of(255, 0, 200), { seed: 3, maxBytes: 40, stop: [/a+b/iu, 'end', Uint8Array.of(1, 2)] }],
    [Uint32Array.of(80, 81), { maxTokens: 60, constraint: { jsonSchema: kSchema } }],
    ['', { constraint: { regex: /[a-c]{5}/ }, logprobs: 2 }],
  ])('goes through an address and gives the same bytes (%#)', async (prompt, options) => {
    const generation = model.stream(prompt, options);
    const { bytes, text } = await generation.result;
    const url = toURL(await recipeOf(model, generation), 'https://example.invalid/page?a=b#old');
    expect(url.href).toMatch(/^https:\/\/example\.invalid\/page\?a=b#recipe=[\w-]+$/);
    const recipe = fromURL(url.href);
    if (!recipe) throw new Error('expected a recipe');
    const heard: string[] = [];
    await using other = await load(anyModel());
    const verdict = await replay(other, recipe, { onText: (part) => heard.push(part) });
    expect(verdict).toMatchObject({ proven: true, sha256: recipe.sha256, text });
    expect(toHex(verdict.bytes)).toBe(toHex(bytes));
    expect(heard.join('')).toBe(text);
  });

  test('that promises other bytes is not proven', async () => {
    const generation = model.stream('x', { seed: 1, maxBytes: 20 });
    const recipe = await recipeOf(model, generation);
    const other = { ...recipe, options: { ...recipe.options, seed: 2 } };
    expect(await replay(model, other)).toMatchObject({ proven: false });
    expect((await replay(model, other)).sha256).not.toBe(recipe.sha256);
  });

  test('is of a whole output of the model alone', async () => {
    await using session = model.session();
    await expect(recipeOf(model, session.stream({ maxBytes: 5 }))).rejects.toMatchObject({ code: 'bad-state' });
    const stopped = model.stream('x', { maxBytes: 1_000_000 });
    await stopped.stop();
    await expect(recipeOf(model, stopped)).rejects.toMatchObject({ code: 'bad-state' });
  });

  test('of another form, or for another model, is refused', async () => {
    const recipe = await recipeOf(model, model.stream('x', { maxBytes: 5 }));
    const wrong: [object | null | string, RegExp][] = [
      [null, /^recipe.version must be 1/],
      ['x', /^recipe.version must be 1/],
      [{ ...recipe, version: 2 }, /^recipe.version must be 1, found 2$/],
      [{ ...recipe, model: 'x' }, /^recipe.model must be a fingerprint/],
      [{ ...recipe, sha256: 'ab' }, /^recipe.sha256 must be 64 hexadecimal digits/],
      [{ ...recipe, options: [] }, /^recipe.options must be an object/],
      [{ ...recipe, options: { ...recipe.options, signal: 1 } }, /without signal/],
      [{ ...recipe, more: 1 }, /without more/],
      [{ ...recipe, options: {} }, /^recipe.options.seed must be a seed/],
      [{ ...recipe, prompt: undefined }, /^recipe.prompt must be a text, bytes or tokens/],
    ];
    for (const [value, message] of wrong) {
      expect(() => toRecipe(value)).toThrow(
        expect.objectContaining({ code: 'bad-option', message: expect.stringMatching(message) }),
      );
    }
    const replaying = (change: Partial<Recipe>): Promise<unknown> => replay(model, { ...recipe, ...change });
    await expect(replaying({ model: '0123456789abcdef' })).rejects.toThrow(/this model, found "0123456789abcdef"$/);
    await expect(replaying({ prompt: 7 })).rejects.toThrow(/^recipe.prompt must be a text, bytes or tokens, found 7$/);
    await expect(replaying({ options: { seed: 1, topK: 0 } })).rejects.toMatchObject({ code: 'bad-option' });
    expect(fromURL('https://example.invalid/')).toBeNull();
    for (const hash of ['AAAA', '-', 'eyJ9']) {
      expect(() => fromURL(`https://example.invalid/#recipe=${hash}`)).toThrow(
        expect.objectContaining({ code: 'bad-option' }),
      );
    }
  });
});

test('options are the same after their way through JSON', () => {
  const value = {
    a: [1n, /x\/y/giu, Uint8Array.of(0, 255), Uint32Array.of(7, 2 ** 32 - 1)],
    $bytes: 'x',
    b: { $object: 1, c: null },
  };
  expect(fromPortable(JSON.parse(JSON.stringify(toPortable(value))))).toEqual(value);
  expect(() => toPortable({ a: () => 1 })).toThrow(/plain data/);
  expect(() => fromPortable({ $regex: '(' })).toThrow(expect.objectContaining({ code: 'bad-option' }));
});
