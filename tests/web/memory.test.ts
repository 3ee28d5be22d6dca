// A conversation for which there is no memory fails alone.
// SPDX-License-Identifier: MIT

import { afterEach, expect, test, vi } from 'vitest';
import { EngineModel } from '../../web/src/engine/engine.js';
import { TernError, load } from '../../web/src/index.js';
import { anyModel } from './golden.js';

afterEach(() => vi.restoreAllMocks());

test('every call on it says out-of-memory, and the others go on', async () => {
  await using model = await load(anyModel());
  await using before = model.session();
  await before.feed('Once');
  const full = new TernError('out-of-memory', 'no more');
  vi.spyOn(EngineModel.prototype, 'open').mockImplementation(() => {
    throw full;
  });
  const failed = model.session();
  const expected = { name: 'TernError', code: 'out-of-memory', message: 'no more' };
  await expect(failed.feed('x')).rejects.toMatchObject(expected);
  await expect(failed.save()).rejects.toMatchObject(expected);
  await expect(failed.stream().result).rejects.toMatchObject(expected);
  expect(failed.position).toBe(0);
  await expect(model.generate('x')).rejects.toMatchObject(expected);
  await expect(model.score('x')).rejects.toMatchObject(expected);
  await failed.close();
  await expect(failed.feed('x')).rejects.toMatchObject({ code: 'closed' });

  vi.restoreAllMocks();
  await before.feed(' upon');
  expect(before.position).toBe(9);
  expect((await model.generate('x', { maxBytes: 3, greedy: true })).bytes.length).toBeGreaterThan(0);
});
