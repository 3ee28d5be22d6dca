// The panels of the demo page: the lines for developers do what the page did, the cards of models, and the specification.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { bundled, dist, withOthers } from './bundle.js';
import { click, given, here, rest, text, visitDemo, written } from './demo.js';
import { missing, open } from './drivers.js';
import { serve } from './server.js';

const { models } = JSON.parse(readFileSync(here('../../models/manifest.json'), 'utf8'));
const model = (file) => readFileSync(here(`../../models/${file}`));

/** What a page with this script shows in the end. */
async function shown(script, files, press) {
  const html =
    '<!doctype html><html lang="en"><head><title>Snippet</title></head><body><script type="module" src="/snippet.js"></script></body></html>';
  const server = await serve(dist, {
    '/snippet.html': html,
    '/snippet.js': await bundled(script),
    ...(await withOthers()),
    ...files,
  });
  const tab = await open.chromium();
  try {
    await tab.goto(`${server.origin}/snippet.html`);
    if (press) {
      await tab.waitFor("document.querySelector('button')?.disabled === false");
      await tab.evaluate("document.querySelector('button').click()");
    }
    let before = '';
    const end = Date.now() + 120_000;
    for (let same = 0; same < 15 && Date.now() < end; await new Promise((resolve) => setTimeout(resolve, 200))) {
      const now = await tab.evaluate("(document.querySelector('p') ?? document.body).textContent");
      same = now !== '' && now === before ? same + 1 : 0;
      before = now;
    }
    assert.deepEqual([...(await tab.problems()), ...server.problems], []);
    return before;
  } finally {
    await tab.close();
    await server.close();
  }
}

const mounted = (snippet) => `${snippet}
import { createRoot } from 'react-dom/client';
const root = document.body.appendChild(document.createElement('main'));
createRoot(root).render(<Story />);`;

describe('lines for developers', { skip: missing('chromium') }, () => {
  for (const { file, name } of models.filter((one) => one.default || one.file.includes('tokens-4m5'))) {
    test(`those for ${name} write in a page, in React and in Node what the page wrote`, async () => {
      const found = {};
      await visitDemo('chromium', {}, async (page) => {
        await rest(page);
        await click(page, 'clear');
        await page.evaluate(`document.querySelector('[data-file="${file}"]').click()`);
        await page.waitFor(`${text('facts')}.includes(${JSON.stringify(name)})`);
        await page.evaluate("document.querySelectorAll('#examples button')[1].click()");
        await rest(page);
        found.prompt = await page.evaluate(given);
        found.text = await page.evaluate(written);
        for (const kind of ['plain', 'react', 'node']) {
          await click(page, `snippet-${kind}`);
          await page.waitFor(`document.getElementById('snippet-${kind}').ariaPressed === 'true'`);
          found[kind] = await page.evaluate(text('snippet'));
        }
      });
      assert.ok(found.text.length > 50 && found.plain.includes(JSON.stringify(found.prompt)), found.plain);
      const files = { [`/models/${file}`]: model(file) };
      assert.equal(await shown(found.plain, files, false), found.text);
      assert.equal(await shown(mounted(found.react), files, true), found.text);

      const folder = mkdtempSync(join(tmpdir(), 'ternlm-snippet-'));
      try {
        mkdirSync(join(folder, 'node_modules'));
        symlinkSync(dist, join(folder, 'node_modules/ternlm'), 'dir');
        writeFileSync(join(folder, file), model(file));
        writeFileSync(join(folder, 'story.mjs'), found.node);
        assert.equal(execFileSync(process.execPath, ['story.mjs'], { cwd: folder, encoding: 'utf8' }), found.text);
      } finally {
        rmSync(folder, { recursive: true });
      }
    });
  }
});

test(
  'a card says that its model is kept and how fast it wrote, and deletes it',
  { skip: missing('chromium') },
  async () => {
    const [first] = models.filter((one) => one.default);
    const card = `document.querySelector('[data-file="${first.file}"]').parentElement`;
    await visitDemo('chromium', {}, async (page, server) => {
      await rest(page);
      await page.waitFor(`${card}.innerText.includes('bytes/s here') || ${card}.textContent.includes('bytes/s here')`);
      await page.waitFor(`${card}.querySelector('button.kept') !== null`);
      assert.ok((await page.evaluate(`${card}.textContent`)).includes(`${first.bits_per_byte.toFixed(3)} bits a byte`));
      const asked = () => server.asked.filter((path) => path === `/models/${first.file}`).length;
      assert.equal(asked(), 1, 'downloaded once');
      await page.page.reload();
      await rest(page);
      assert.equal(asked(), 1, 'kept');
      await page.waitFor(`${card}.querySelector('button.kept') !== null`);
      await page.evaluate(`${card}.querySelector('button.kept').click()`);
      await page.waitFor(`${card}.querySelector('button.kept') === null`);
      await page.page.reload();
      await rest(page);
      assert.equal(asked(), 2, 'downloaded anew');
      const names = await page.evaluate(
        'caches.keys().then((names) => Promise.all(names.map(async (name) => (await (await caches.open(name)).keys()).map(({ url }) => url))))',
      );
      assert.deepEqual(
        names.flat().filter((url) => url.includes('/models/')),
        [],
        'kept once, not by the service worker, too',
      );
    });
  },
);

test(
  'the specification is computed on this device, and the report can be copied',
  { skip: missing('chromium') },
  async () => {
    await visitDemo('chromium', {}, async (page, { origin }) => {
      await page.page.context().grantPermissions(['clipboard-read', 'clipboard-write'], { origin });
      await rest(page);
      await page.page.click('#tab-proof');
      await page.page.click('#conform');
      await page.waitFor(`${text('conform')} === 'Stop'`);
      await page.page.click('#conform');
      await page.waitFor(`${text('conform')} === 'Compute the specification'`, 20_000);
      await page.page.click('#conform');
      await page.waitFor(`/^All \\d+ digests are those of the specification ✓/.test(${text('conformed')})`, 240_000);
      await page.page.click('#copy-conformance');
      await page.waitFor(`${text('copy-conformance')} === 'Copied ✓'`);
      const report = await page.page.evaluate('navigator.clipboard.readText()');
      assert.match(report, /^TernLM conforms to specification [\d.]+\nbrowser /);
      assert.match(report, /tinystories-3m5 +\d+ of \d+ equal/i);
      assert.equal(await page.evaluate(text('requests')), '0');
    });
  },
);
