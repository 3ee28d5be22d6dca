// The bench in the demo page: limits of the machine, the engine's products, the model; a chart, and a report to copy.
import assert from 'node:assert/strict';
import { mkdirSync } from 'node:fs';
import { test } from 'node:test';
import { click, here, rest, text, visitDemo } from './demo.js';
import { missing } from './drivers.js';

const number = async (page, id) => Number(/[\d,.]+/.exec(await page.evaluate(text(id)))[0].replaceAll(',', ''));

for (const browser of ['chromium', 'firefox', 'webkit']) {
  test(`measure in ${browser}: limits, products, model, chart`, { skip: missing(browser) }, async (t) => {
    await visitDemo(browser, {}, async (page) => {
      await rest(page);
      await page.evaluate("void (document.getElementById('measure').open = true)");
      await page.waitFor("document.getElementById('bench') !== null");
      await click(page, 'bench');
      assert.equal(await page.evaluate(text('bench')), 'Stop');
      await click(page, 'bench');
      await page.waitFor(`${text('bench')} === 'Measure again'`, 5000);
      await click(page, 'bench');
      await page.waitFor("document.getElementById('bench-copy') !== null", 120_000);
      for (const id of ['limit-dot', 'limit-memory', 'bench-write', 'bench-read', 'bench-first'])
        assert.ok((await number(page, id)) > 0, id);
      t.diagnostic(await page.evaluate("document.querySelector('.bench-rows').innerText.replaceAll('\\n', ' ')"));
      await page.waitFor("document.querySelector('#bench-chart :is(canvas, p)') !== null");
      // The library of the chart does not start where the system's language is C, as that of WebKit's driver may be.
      const chart = await page.evaluate(
        "document.querySelector('#bench-chart canvas')?.tagName ?? document.getElementById('bench-chart').textContent",
      );
      assert.match(chart, browser === 'webkit' ? /CANVAS|could not be drawn: RangeError/ : /CANVAS/);
      if (chart === 'CANVAS') {
        const said = await page.evaluate("document.querySelector('#bench-chart').getAttribute('aria-label')");
        assert.match(said, /writing: \d+, 16: \d+.*1024: \d+/);
      }
      assert.equal(await page.evaluate(text('requests')), '0');
    });
  });
}

test('the report of a measurement has everything in lines', { skip: missing('chromium') }, async () => {
  await visitDemo('chromium', { viewport: { width: 320, height: 700 } }, async (page, { origin }) => {
    await page.page.context().grantPermissions(['clipboard-read', 'clipboard-write'], { origin });
    await rest(page);
    await page.evaluate("document.getElementById('measure').open = true");
    await page.waitFor("document.getElementById('bench') !== null");
    await click(page, 'bench');
    await page.waitFor("document.getElementById('bench-copy') !== null", 120_000);
    await page.page.click('#bench-copy');
    await page.waitFor(`${text('bench-copy')} === 'Copied ✓'`);
    const report = await page.evaluate('navigator.clipboard.readText()');
    assert.match(report, /^TernLM, measured in a page\nbrowser .*Chrome/);
    for (const line of [
      /dot products alone +[\d.]+ GMAC/,
      /memory +[\d.]+ GB/,
      /kernel \w+ .*in use/,
      /writing +[\d,]+ bytes/,
    ])
      assert.match(report, line);
    assert.equal(await page.evaluate('document.documentElement.scrollWidth'), 320);
    mkdirSync(here('../../build/shots'), { recursive: true });
    await page.page.screenshot({ path: here('../../build/shots/measure-320.png'), fullPage: true });
  });
});
