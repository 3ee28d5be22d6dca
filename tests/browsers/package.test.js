// The package and every variant of the engine in three browsers: the golden bytes, and what a page may rely on.
import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { missing, open } from './drivers.js';
import { serve } from './server.js';

const built = fileURLToPath(new URL('../../build/browser-page', import.meta.url));

// Where a browser has relaxed SIMD it must be chosen: a silent fallback would leave that variant untested. Old ones of
// Firefox have none.
const alwaysRelaxed = ['chromium'];

// One check starts a worker that throws on purpose.
const expected = /not the worker/;

for (const browser of ['chromium', 'firefox', 'webkit']) {
  describe(`package in ${browser}`, { skip: missing(browser) }, () => {
    test('the page of checks', async (t) => {
      assert.ok(existsSync(`${built}/index.html`), 'not built: run npm run build:lib && npm run build:browser-page');
      const server = await serve(built);
      const page = await open[browser]();
      try {
        await page.goto(`${server.origin}/`);
        const { checks, notes } = await page.waitFor('window.__result', 480_000);
        for (const { name, error } of checks) await t.test(name, () => assert.equal(error, null));
        await t.test('relaxed SIMD is what it chooses where there is any', () => {
          assert.equal(notes.variant.variant, notes.hasRelaxed ? 'relaxed' : 'simd');
          assert.ok(notes.hasRelaxed || !alwaysRelaxed.includes(browser), 'no relaxed SIMD');
        });
        const problems = [...(await page.problems()), ...server.problems].filter((problem) => !expected.test(problem));
        await t.test('nothing was complained about, nothing was asked of another origin', () =>
          assert.deepEqual(problems, []),
        );
        t.diagnostic(JSON.stringify(notes));
      } finally {
        await page.close();
        await server.close();
      }
    });
  });
}
