// What ternlm/testing gives to the tests of others is true, and fails where it should.
// SPDX-License-Identifier: MIT

import { afterAll, beforeAll, expect, test } from 'vitest';
import { load, type Model } from '../../web/src/index.js';
import {
  BitExactError,
  expectBitExact,
  goldenStreams,
  recordStreams,
  toyModel,
} from '../../web/src/entries/testing.js';
import { anyModel } from './golden.js';

let toy: Model;
beforeAll(async () => {
  toy = await load(await toyModel());
});
afterAll(async () => toy.close());

test('the toy model is a real one of about 20 KB that writes what is known of it', async () => {
  expect(toy.info.fileBytes).toBeLessThan(25_000);
  expect(toy.info).toMatchObject({ integrity: 'verified', stages: 0, vocabulary: { size: 256 } });
  expect(await goldenStreams(toy)).toHaveLength(7);
  await expectBitExact(toy);
});

test('a published model is known, too', async () => {
  const model = await load('models/tinystories-3m5.gguf');
  expect(await goldenStreams(model)).toHaveLength(8);
  await expectBitExact(model, (await goldenStreams(model)).slice(0, 2));
  await model.close();
});

test('a byte or an end that is not the recorded one is an error that says where', async () => {
  const recorded = await recordStreams(toy, [
    { prompt: 'Once', options: { seed: 1, maxBytes: 30 } },
    { prompt: Uint8Array.of(0xff, 0), options: { greedy: true, maxBytes: 8, utf8: 'raw' } },
  ]);
  const [first, second] = JSON.parse(JSON.stringify(recorded)) as typeof recorded;
  if (!first || !second) throw new Error('nothing was recorded');
  await expectBitExact(toy, [first, second]);
  const changed = { ...first, bytes: `${first.bytes.slice(0, 20)}00${first.bytes.slice(22)}` };
  const error: unknown = await expectBitExact(toy, [second, changed]).catch((error: unknown) => error);
  expect(error).toBeInstanceOf(BitExactError);
  expect(error).toMatchObject({ at: 10, stream: changed, found: first.bytes });
  expect(String(error)).toMatch(/^BitExactError: byte 10 of the output .*"seed":1.*expected 00/);
  const short = { ...first, bytes: first.bytes.slice(0, -2) };
  await expect(expectBitExact(toy, [short])).rejects.toMatchObject({ at: 29 });
  await expect(expectBitExact(toy, [{ ...first, finish: 'end-of-text' }])).rejects.toThrow(/expected end-of-text/);
});

test('refuses what would prove nothing', async () => {
  const unknown = await load(anyModel());
  await expect(expectBitExact(unknown)).rejects.toMatchObject({ code: 'bad-option' });
  await expect(expectBitExact(toy, [])).rejects.toMatchObject({ code: 'bad-option' });
  await expect(recordStreams(toy, [{ prompt: 'a', options: {} }])).rejects.toMatchObject({ code: 'bad-option' });
  const signal = AbortSignal.abort(new Error('enough'));
  await expect(expectBitExact(toy, undefined, { signal })).rejects.toThrow('enough');
  await unknown.close();
});
