// A file that is not the one expected, or not whole, does not load; also where the page has no crypto.subtle.
// SPDX-License-Identifier: MIT

import { createHash } from 'node:crypto';
import { afterEach, describe, expect, test, vi } from 'vitest';
import { load } from '../../web/src/index.js';
import { anyModel } from './golden.js';

const kFile = anyModel();
const integrity = createHash('sha256').update(kFile).digest('hex');

afterEach(() => vi.unstubAllGlobals());

describe.each(['secure', 'insecure'])('in a %s context', (context) => {
  test('the checksum that was given is compared, however the file arrives', async () => {
    if (context === 'insecure') {
      vi.stubGlobal('crypto', { getRandomValues: crypto.getRandomValues.bind(crypto) });
    }
    const pieces = new Blob([kFile]).stream();
    for (const source of [kFile, pieces]) {
      const model = await load(source, { integrity: integrity.toUpperCase() });
      expect(model.info).toMatchObject({ integrity: 'verified', checked: true });
      await model.close();
    }
    await expect(load(kFile, { integrity: '0'.repeat(64) })).rejects.toMatchObject({
      code: 'integrity',
      message: expect.stringContaining(integrity),
    });
  });
});

test.each([0.05, 0.5, 0.999])(
  'a byte that was changed is found without being asked for (at %f of the file)',
  async (at) => {
    const damaged = kFile.slice();
    const place = Math.floor(at * damaged.length);
    damaged[place] = (damaged[place] ?? 0) ^ 0x10;
    await expect(load(damaged)).rejects.toMatchObject({ code: 'bad-file' });
  },
);

test('bytes after the end are found', async () => {
  const longer = new Uint8Array(kFile.length + 40).fill(7);
  longer.set(kFile);
  await expect(load(longer)).rejects.toMatchObject({ code: 'bad-file' });
});
