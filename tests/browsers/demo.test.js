// The demo page as a visitor meets it, on a phone and on a desk: it writes by itself, stops, is accessible, stays at home.
import assert from 'node:assert/strict';
import { existsSync, mkdirSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { missing, open } from './drivers.js';
import { serve } from './server.js';

const here = (path) => fileURLToPath(new URL(path, import.meta.url));
const built = here('../../web/dist');
const shots = here('../../build/shots');
const axe = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');

const text = (id) => `document.getElementById('${id}').textContent`;
const phase = 'document.body.dataset.phase';

/** Waits until the page has paused or finished its story; a page that says it cannot go on fails at once. */
async function rest(page) {
  const reached = await page.waitFor(`['paused', 'finished', 'broken'].find((name) => name === ${phase})`, 120_000);
  assert.notEqual(reached, 'broken', await page.evaluate(`${text('problem-title')} + ': ' + ${text('problem-text')}`));
}

/** Runs `visit` in a fresh browser on the built page, and expects that nothing was complained about meanwhile. */
async function visitDemo(browser, options, visit) {
  assert.ok(existsSync(`${built}/index.html`), 'web/dist is not built: run npm run build:demo');
  const server = await serve(built);
  const page = await open[browser](options);
  try {
    await page.goto(`${server.origin}/`);
    await visit(page);
    assert.deepEqual(await page.problems(), []);
    assert.deepEqual(server.problems, []);
  } finally {
    await page.close();
    await server.close();
  }
}

const sizes = { phone: { width: 390, height: 844 }, desk: { width: 1280, height: 800 } };

describe('demo in chromium', { skip: missing('chromium') }, () => {
  for (const [name, viewport] of Object.entries(sizes)) {
    test(`at ${name} size it starts by itself, fits the screen and passes axe`, async () => {
      await visitDemo('chromium', { viewport }, async (page) => {
        await rest(page);
        assert.notEqual(await page.evaluate(text('written')), '');
        mkdirSync(shots, { recursive: true });
        await page.page.screenshot({ path: `${shots}/demo-${name}.png` });
        await page.page.screenshot({ path: `${shots}/demo-${name}-whole.png`, fullPage: true });
        const overflow = await page.evaluate('document.documentElement.scrollWidth - innerWidth');
        assert.ok(overflow <= 0, `the page is ${overflow} px wider than the screen`);
        await page.evaluate(axe);
        const violations = await page.evaluate(
          `axe.run().then(({ violations }) => violations.map(({ id, nodes }) => id + ': ' + nodes.map((node) => node.html).join(' | ')))`,
        );
        assert.deepEqual(violations, []);
      });
    });
  }

  test('the stop button stops the writing, and it can go on', async () => {
    await visitDemo('chromium', {}, async (page) => {
      await rest(page);
      await page.page.check('#slowly'); // so that the story is surely still being written when the button is pressed
      await page.page.click('#write');
      await page.waitFor(`${phase} === 'writing' && ${text('written')}.length >= 5`);
      assert.equal(await page.evaluate(text('main-action')), 'Stop');
      await page.page.click('#main-action');
      await page.waitFor(`${phase} === 'paused'`, 5000);
      const stopped = await page.evaluate(text('written'));
      await page.page.waitForTimeout(500); // twenty characters at this pace, if it went on
      assert.equal(await page.evaluate(text('written')), stopped);

      assert.equal(await page.evaluate(text('main-action')), 'Continue');
      await page.page.click('#main-action');
      await page.waitFor(`${text('written')}.length > ${stopped.length}`);
      assert.ok((await page.evaluate(text('written'))).startsWith(stopped));
    });
  });

  test('the same seed tells the same story, another seed another', async () => {
    await visitDemo('chromium', {}, async (page) => {
      const tell = async (seed) => {
        await rest(page);
        await page.page.fill('#seed', seed);
        await page.page.fill('#prompt', 'Lily had a blue boat');
        await page.page.click('#write');
        await rest(page);
        assert.equal(await page.evaluate(text('begin')), 'Lily had a blue boat');
        return (await page.evaluate(text('written'))).slice(0, 400); // where a telling pauses depends on the pace
      };
      const first = await tell('42');
      assert.equal(await tell('42'), first);
      assert.notEqual(await tell('43'), first);
    });
  });
});
