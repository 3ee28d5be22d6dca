// The stories that the page begins with have the bytes that are recorded of them, in every browser; and the page says so.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { click, here, rest, text, visitDemo, written } from './demo.js';
import { missing } from './drivers.js';

const presets = JSON.parse(readFileSync(here('../../web/demo/presets.json'), 'utf8'));

for (const browser of ['chromium', 'firefox', 'webkit']) {
  test(
    `${browser}: the first visit ends with the recorded bytes, and so does every preset`,
    { skip: missing(browser) },
    async () => {
      await visitDemo(browser, {}, async (page) => {
        for (const [i, { name, bytes, sha256 }] of presets.entries()) {
          if (i > 0) await page.evaluate(`void document.querySelectorAll('#examples button')[${i}].click()`);
          await rest(page); // the first is told by itself
          await page
            .waitFor(`${text('note')} === 'The same ${bytes} bytes as everywhere ✓'`, 5000)
            .catch(async (error) => {
              throw new Error(`${name}: ${await page.evaluate(text('note'))}`, { cause: error });
            });
          assert.equal(new TextEncoder().encode(await page.evaluate(written)).length, bytes);
          await click(page, 'tab-proof');
          assert.equal(await page.waitFor(`${text('proof-sha256')}.length === 64 && ${text('proof-sha256')}`), sha256);
        }
        await click(page, 'check-device');
        await page.waitFor(
          `${text('checked')} === 'All ${presets.length} stories have the bytes that they have everywhere ✓'`,
        );
      });
    },
  );
}

test('a story with another recorded hash is said to be other bytes', { skip: missing('chromium') }, async () => {
  const [first] = presets;
  const { readdirSync } = await import('node:fs');
  const folder = here('../../web/dist/assets');
  const script = readdirSync(folder).find((name) => /^index-.*\.js$/.test(name));
  const wrong = readFileSync(`${folder}/${script}`, 'utf8').replace(first.sha256, '0'.repeat(64));
  await visitDemo('chromium', { files: { [`/assets/${script}`]: wrong } }, async (page) => {
    await rest(page);
    await page.waitFor(`${text('note')}.startsWith('Different bytes: expected checksum 0000')`);
  });
});
