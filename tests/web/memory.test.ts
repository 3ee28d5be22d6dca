// A conversation for which there is no memory fails alone.
// SPDX-License-Identifier: MIT

import { afterEach, expect, test, vi } from 'vitest';
import { EngineModel } from '../../web/src/engine/engine.js';
import { TernError, load } from '../../web/src/index.js';
import { bitnet } from './bitnet.js';
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

test('a text that needs more than there is fails where it is, and all goes on when there is more', async () => {
  await using model = await load(bitnet(2000));
  vi.spyOn(WebAssembly.Memory.prototype, 'grow').mockImplementation(() => {
    throw new RangeError('no more');
  });
  const sessions = [];
  const long = new Uint32Array(700).fill(65);
  let failure: unknown = null;
  while (failure === null && sessions.length < 100) {
    const session = model.session();
    sessions.push(session);
    failure = await session.feed(long).then(
      () => null,
      (error: unknown) => error,
    );
  }
  expect(failure).toMatchObject({ name: 'TernError', code: 'out-of-memory' });
  const [first] = sessions;
  const last = sessions.at(-1);
  expect(last?.position).toBeLessThan(long.length);
  await first?.close(); // whose memory others may have
  await last?.feed('ab');
  expect((await model.generate('x', { maxTokens: 3, seed: 1 })).tokens.length).toBeGreaterThan(0);
  await Promise.all(sessions.map((session) => session.close()));
}, 60_000);
