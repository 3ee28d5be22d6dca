// load() takes what llama.cpp wrote as it takes our files: told apart by itself, converted while it arrives.
// SPDX-License-Identifier: MIT

import { createHash } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import { fromOtherGguf } from '../../web/src/gguf.js';
import { load, type LoadProgress } from '../../web/src/index.js';
import { bitnet, bitnetOfOthers } from './bitnet.js';

const kShort = { seed: 3, maxTokens: 12 };

/** Its first kilobytes in pieces of this size, the rest in larger ones. */
function inPieces(file: Uint8Array<ArrayBuffer>, size: number): ReadableStream<Uint8Array<ArrayBuffer>> {
  let at = 0;
  return new ReadableStream({
    pull(controller) {
      const next = at < 5000 ? size : Math.max(size, 10_001);
      if (at < file.length) controller.enqueue(file.slice(at, (at += next)));
      else controller.close();
    },
  });
}

const sha256 = (file: Uint8Array): string => createHash('sha256').update(file).digest('hex');

describe.each(['bitnet-25', 'bitnet-b1.58', 'bitnet', 'llama'])('a file of llama.cpp, %s,', (architecture) => {
  const file = bitnetOfOthers(architecture);

  test('is what fromOtherGguf() makes of it, in pieces of any size', async () => {
    await using converted = await load(fromOtherGguf(inPieces(file, 1000)));
    const expected = (await converted.generate('a bad cab', kShort)).tokens;
    for (const size of [1, 79, 4096, file.length]) {
      await using model = await load(inPieces(file.slice(), size));
      expect(model.info.architecture).toBe('bitnet');
      expect((await model.generate('a bad cab', kShort)).tokens).toEqual(expected);
    }
  }, 60_000);

  test('has the checksum that was asked for, and its own size', async () => {
    const told: LoadProgress[] = [];
    const options = { integrity: sha256(file), onProgress: (each: LoadProgress) => void told.push(each) };
    await using model = await load(file.slice(), options);
    expect(model.info.integrity).toBe('verified');
    expect(told.at(-1)).toMatchObject({ loaded: file.length, total: file.length });
    await expect(load(file.slice(), { integrity: sha256(Uint8Array.of(1)) })).rejects.toMatchObject({
      code: 'integrity',
    });
  });

  test('that is cut off or damaged is refused with its code', async () => {
    await expect(load(file.slice(0, -40))).rejects.toMatchObject({ code: 'incomplete' });
    const damaged = file.slice();
    damaged.fill(255, -64); // of the last norm: NaN
    await expect(load(damaged)).rejects.toMatchObject({ code: 'bad-file' });
  });
});

test('ours of the same name, and what is neither, are read as they were', async () => {
  const file = bitnet(64);
  const [one, other] = await Promise.all([load(inPieces(file, 7)), load(file.slice(), { integrity: sha256(file) })]);
  expect((await one.generate('a', kShort)).tokens).toEqual((await other.generate('a', kShort)).tokens);
  await Promise.all([one.close(), other.close()]);
  await expect(load(new Uint8Array(0))).rejects.toMatchObject({ code: 'bad-file' });
  await expect(load(Uint8Array.from(Buffer.from('GGUF')))).rejects.toMatchObject({ code: 'bad-file' });
  await expect(load(Uint8Array.from(Buffer.from('<html>')))).rejects.toMatchObject({ code: 'bad-file' });
});
