// Options become the engine's integers, or an error that says what was expected.
// SPDX-License-Identifier: MIT

import { describe, expect, test } from 'vitest';
import { kBytes } from '../../web/src/codec.js';
import { TernError } from '../../web/src/errors.js';
import { toOrder, type GenerateOptions, type Order } from '../../web/src/api/options.js';

const order = (options?: GenerateOptions, stages = 0, codec = kBytes): Order =>
  toOrder(options, { stages, codec, turnEnd: null });

/** What a caller without types can pass. */
function fromJavaScript(json: string): GenerateOptions {
  return JSON.parse(json);
}

function errorOf(options: GenerateOptions): unknown {
  try {
    order(options, 1);
    return null;
  } catch (error) {
    return error;
  }
}

describe('boundaries', () => {
  test('are reported when asked for, of a model that has them', () => {
    expect(order({}).traced).toBe(false);
    expect(order({}, 2).traced).toBe(false);
    expect(order({ trace: {} }, 2).traced).toBe(false);
    expect(order({ trace: { boundaries: false } }).traced).toBe(false);
    expect(order({ trace: { boundaries: true } }, 1).traced).toBe(true);
    expect(errorOf({ trace: { boundaries: true } })).toBeNull();
  });

  test.each<[GenerateOptions, number, RegExp]>([
    [{ trace: { boundaries: true } }, 0, /^trace.boundaries: this model is flat and has no chunks/],
    [fromJavaScript('{"trace": 1}'), 1, /^trace must be an object, found 1$/],
    [fromJavaScript('{"trace": null}'), 1, /^trace must be an object, found null$/],
    [fromJavaScript('{"trace": {"boundaries": 1}}'), 1, /^trace.boundaries must be true or false, found 1$/],
    [fromJavaScript('{"trace": {"gate": true}}'), 1, /^unknown option trace.gate; known is boundaries$/],
  ])('that cannot be reported are refused (%#)', (options, stages, message) => {
    expect(() => order(options, stages)).toThrow(
      expect.objectContaining({ code: 'bad-option', message: expect.stringMatching(message) }),
    );
  });
});

describe('options', () => {
  test('left out are temperature 1 with nothing cut, 1024 bytes and a seed of 32 bits', () => {
    const { sampling, maxTokens } = order(undefined);
    const { seed, ...rest } = sampling;
    expect(maxTokens).toBe(1024);
    expect(rest).toEqual({
      greedy: false,
      temperatureQ16: 65536,
      topK: 256,
      topPQ16: 65536,
      minPQ16: 0,
      repetitionPenaltyQ16: 65536,
      raw: false,
    });
    expect(seed).toBeGreaterThanOrEqual(0n);
    expect(seed).toBeLessThan(1n << 32n);
  });

  test('left out seeds differ from call to call', () => {
    const seeds = new Set(Array.from({ length: 20 }, () => order({}).sampling.seed));
    expect(seeds.size).toBeGreaterThan(15);
  });

  test('are rounded to the nearest multiple of 2^-16', () => {
    const { sampling: options } = order({ temperature: 0.7, topP: 0.9, minP: 0.05, repetitionPenalty: 1.1 });
    expect(options.temperatureQ16).toBe(45875); // 45875.2
    expect(options.topPQ16).toBe(58982); // 58982.4
    expect(options.minPQ16).toBe(3277); // 3276.8
    expect(options.repetitionPenaltyQ16).toBe(72090); // 72089.6
  });

  test('at the ends of their ranges are accepted', () => {
    const low = {
      temperature: 1 / 65536,
      topK: 1,
      topP: 1 / 65536,
      minP: 0,
      repetitionPenalty: 1,
      seed: 0,
      maxBytes: 1,
    };
    const high = { temperature: 100, topK: 256, topP: 1, minP: 0.9999, repetitionPenalty: 10, maxBytes: 1e9 };
    expect(errorOf(low)).toBeNull();
    expect(errorOf({ ...high, seed: 2n ** 64n - 1n })).toBeNull();
    expect(order({ seed: Number.MAX_SAFE_INTEGER }).sampling.seed).toBe(9007199254740991n);
  });

  test.each<[GenerateOptions, RegExp]>([
    [{ temperature: -1 }, /^temperature must be a number above 0 and at most 100, found -1$/],
    [{ temperature: 0 }, /^temperature must be/],
    [{ temperature: 100.1 }, /^temperature must be/],
    [{ temperature: Number.NaN }, /^temperature must be .* found NaN$/],
    [{ temperature: Infinity }, /^temperature must be/],
    [{ topK: 0 }, /^topK must be a whole number from 1 to 256, found 0$/],
    [{ topK: 257 }, /^topK must be/],
    [{ topK: 1.5 }, /^topK must be/],
    [{ topP: 0 }, /^topP must be/],
    [{ topP: 1.01 }, /^topP must be/],
    [{ minP: -0.1 }, /^minP must be/],
    [{ minP: 1 }, /^minP must be/],
    [{ repetitionPenalty: 0.9 }, /^repetitionPenalty must be a number from 1 to 10, found 0.9$/],
    [{ repetitionPenalty: 11 }, /^repetitionPenalty must be/],
    [fromJavaScript('{"utf8": "loose"}'), /^utf8 must be 'valid' or 'raw', found "loose"$/],
    [{ seed: -1 }, /^seed must be/],
    [{ seed: 0.5 }, /^seed must be/],
    [{ seed: 2 ** 53 }, /^seed must be/],
    [{ seed: 2n ** 64n }, /^seed must be/],
    [{ maxBytes: 0 }, /^maxBytes must be a whole number from 1 to 1000000000, found 0$/],
    [fromJavaScript('{"maxBytes": "x"}'), /^maxBytes must be a whole number .*, found "x"$/],
    [fromJavaScript('{"temperature": "0.7"}'), /^temperature must be .* found "0.7"$/],
    [fromJavaScript('{"greedy": 1}'), /^greedy must be true or false, found 1$/],
    [fromJavaScript('{"signal": {}}'), /^signal must be an AbortSignal/],
    [fromJavaScript('{"top_k": 5}'), /^unknown option top_k; known are greedy, temperature, topK/],
    [fromJavaScript('null'), /^options must be an object, found null$/],
    [fromJavaScript('"fast"'), /^options must be an object, found "fast"$/],
  ])('that are wrong are refused with what was expected (%#)', (options, message) => {
    const error = errorOf(options);
    expect(error).toBeInstanceOf(TernError);
    expect(error).toMatchObject({ code: 'bad-option', message: expect.stringMatching(message) });
  });
});
