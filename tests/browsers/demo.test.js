// The demo page as a visitor meets it, on a phone and on a desk: it writes by itself, stops, is accessible, stays at home.
import assert from 'node:assert/strict';
import { mkdirSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { describe, test } from 'node:test';
import { click, fill, given, here, phase, rest, serveDemo, text, visitDemo, write, written } from './demo.js';
import { missing, open } from './drivers.js';
import { serve } from './server.js';

const shots = here('../../build/shots');
const axe = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');

const { models } = JSON.parse(readFileSync(here('../../models/manifest.json'), 'utf8'));
const hierarchical = models.find(({ architecture }) => architecture === 'hnetbit');

/** Has the page's model replaced by another one, which keeps the text, and tells the first story with that. */
async function choose(page, { file, name }) {
  const before = await page.evaluate("document.getElementById('text').textContent");
  await page.evaluate("document.getElementById('card').open = true"); // on a phone it is closed
  await page.page.click(`[data-file="${file}"]`);
  await page.waitFor(`${text('facts')}.includes(${JSON.stringify(name)})`);
  await rest(page);
  assert.equal(await page.evaluate("document.getElementById('text').textContent"), before);
  await click(page, 'again');
  await rest(page);
}

/** Takes pictures of the page, which has to fit the screen and to be accessible. */
async function look(page, name) {
  mkdirSync(shots, { recursive: true });
  await page.page.screenshot({ path: `${shots}/${name}.png` });
  await page.page.screenshot({ path: `${shots}/${name}-whole.png`, fullPage: true });
  const overflow = await page.evaluate('document.documentElement.scrollWidth - innerWidth');
  assert.ok(overflow <= 0, `the page is ${overflow} px wider than the screen`);
  await page.evaluate(axe);
  const violations = await page.evaluate(
    `axe.run().then(({ violations }) => violations.map(({ id, nodes }) => id + ': ' + nodes.map((node) => node.html).join(' | ')))`,
  );
  assert.deepEqual(violations, []);
}

/** The reader's own words, as the page colours them. */
const own =
  "[...CSS.highlights.get('own')].map(({ startOffset, endOffset }) => document.getElementById('text').textContent.slice(startOffset, endOffset))";

const sizes = { phone: { width: 390, height: 844 }, desk: { width: 1280, height: 800 } };

describe('demo in chromium', { skip: missing('chromium') }, () => {
  for (const [name, viewport] of Object.entries(sizes)) {
    test(`at ${name} size it starts by itself, fits the screen and passes axe`, async () => {
      await visitDemo('chromium', { viewport }, async (page) => {
        await rest(page);
        assert.notEqual(await page.evaluate(written), '');
        await look(page, `demo-${name}`);
      });
    });
  }

  for (const [name, viewport] of Object.entries(sizes)) {
    test(`at ${name} size the lens Chunks shows those of a hierarchical model`, async () => {
      await visitDemo('chromium', { viewport }, async (page) => {
        const drawn =
          "[...(CSS.highlights.get('chunk') ?? [])].map(({ startOffset, endOffset }) => [startOffset, endOffset])";
        await rest(page);
        await page.page.click('#tab-chunks');
        assert.deepEqual(await page.evaluate(drawn), [], 'a flat model has no chunks');
        assert.match(await page.evaluate(text('lens')), /A hierarchical one chooses its own/);
        await page.page.click(`#lens button`);
        await page.waitFor(`${text('facts')}.includes(${JSON.stringify(hierarchical.name)})`);
        await rest(page);
        await click(page, 'again');
        await rest(page);
        await page.waitFor(`Number(${text('chunk-length')}) > 0`);

        const from = Number(await page.evaluate("document.getElementById('text').dataset.from"));
        const length = Number(await page.evaluate("document.getElementById('text').textContent.length"));
        const stretches = await page.evaluate(drawn);
        const count = Number(await page.evaluate(text('chunk-count')));
        assert.equal(stretches.length, Math.ceil(count / 2), 'every other one is tinted');
        assert.ok(stretches.filter(([start]) => start < from).length > 3, 'the beginning is shown in its chunks');
        for (const [i, [start, end]] of stretches.entries()) {
          assert.ok(start < end && end <= (stretches[i + 1]?.[0] ?? length), `${start} to ${end}`);
        }
        const mean = Number(await page.evaluate(text('chunk-length')));
        assert.ok(mean > 2 && mean < 12, `a chunk has ${mean} bytes`);
        assert.ok(Math.abs(mean - length / count) < 1.5, `${mean}: ${count} chunks in ${length} bytes`);

        await look(page, `demo-chunks-${name}`);
        await page.page.click('#tab-read');
        assert.deepEqual(await page.evaluate(drawn), []);
      });
    });
  }

  test('a file of the reader takes over, chosen or dropped; one that is no model changes nothing', async () => {
    await visitDemo('chromium', {}, async (page) => {
      await rest(page);
      await page.page.fill('#seed', '5');
      const facts = await page.evaluate(text('facts'));
      const told = await page.evaluate(written);
      const action = await page.evaluate(text('main-action'));
      await page.page.setInputFiles('#own-file', here('../README.md'));
      await page.waitFor(`${text('note')}.startsWith('README.md was not opened')`);
      assert.match(await page.evaluate(text('note')), /expected|no GGUF|not a/);
      assert.equal(await page.evaluate(text('facts')), facts);
      assert.equal(await page.evaluate(written), told);
      assert.equal(await page.evaluate(text('main-action')), action);

      await page.page.setInputFiles('#own-file', here('../golden/tiny_gate.gguf'));
      await page.waitFor(`${text('facts')} !== ${JSON.stringify(facts)}`);
      await rest(page);
      assert.equal(await page.evaluate(written), told, 'the text stays');
      await click(page, 'again');
      await rest(page);
      const own = await page.evaluate(written);
      assert.notEqual(own, told);
      await choose(
        page,
        models.find((model) => model.default),
      );
      assert.notEqual(await page.evaluate(written), own);

      const bytes = readFileSync(here('../golden/tiny_gate.gguf')).toString('base64');
      await page.evaluate(`(() => {
        const files = new DataTransfer();
        const bytes = Uint8Array.from(atob('${bytes}'), (character) => character.charCodeAt(0));
        files.items.add(new File([bytes], 'dropped.gguf'));
        for (const type of ['dragover', 'drop']) {
          document.body.dispatchEvent(
            new DragEvent(type, { dataTransfer: files, bubbles: true, cancelable: true }),
          );
        }
      })()`);
      await page.waitFor(`!${text('facts')}.includes('TinyStories') && ${phase} !== 'loading'`);
      await click(page, 'again');
      await rest(page);
      assert.equal((await page.evaluate(written)).slice(0, 100), own.slice(0, 100));
    });
  });

  test('the address names a model of this origin, and of no other', async () => {
    await visitDemo('chromium', {}, async (page) => {
      await rest(page);
      const { origin } = new URL(page.page.url());
      await page.goto(`${origin}/?model=models/${hierarchical.file}`);
      await rest(page);
      assert.ok((await page.evaluate(text('facts'))).includes(hierarchical.name));
      await page.goto(`${origin}/?model=https://example.org/model.gguf`);
      await page.waitFor(`${phase} === 'broken'`);
      assert.match(await page.evaluate(text('problem-text')), /expected a file at http.*open the file here/);
      await page.page.setInputFiles('#own-file', here('../golden/tiny_gate.gguf'));
      await rest(page);
    });
  });

  for (const model of models.filter((one) => !one.default)) {
    test(`a shared story is told again by the model that told it: ${model.name}`, async () => {
      await visitDemo('chromium', { viewport: sizes.desk }, async (page) => {
        await rest(page);
        await choose(page, model);
        const told = await page.evaluate(written);
        await page.page.click('#share');
        await page.waitFor("location.hash !== ''");
        const link = await page.evaluate('location.href');
        await page.page.goto('about:blank');
        await page.goto(link);
        await rest(page);
        await page.waitFor(`${text('note')}.includes('Told again byte for byte')`, 60_000);
        assert.ok((await page.evaluate(text('facts'))).includes(model.name));
        assert.ok((await page.evaluate(written)).startsWith(told));
      });
    });
  }

  for (const bits of [8, 6, 4]) {
    test(`a model trained in float and stored as SF${bits} is chosen by its name, and its card says what it is`, async () => {
      const model = models.find(({ file }) => file.endsWith(`-sf${bits}.gguf`));
      assert.ok(model, `models/manifest.json has no model in SF${bits}`);
      await visitDemo('chromium', { viewport: sizes.desk }, async (page) => {
        await rest(page);
        await page.evaluate("document.getElementById('card').open = true");
        const card = page.page.locator('.model-choice', { hasText: model.name });
        assert.ok(
          (await card.textContent()).includes(`${(model.bytes / 1e6).toFixed(1)} MB`),
          await card.textContent(),
        );
        await card.click();
        await page.waitFor(`${text('facts')}.includes('${model.name}')`);
        await rest(page);
        const facts = await page.evaluate(text('facts'));
        assert.ok(facts.includes(`a sign and ${bits - 1} bits (SF${bits})`), facts);
        assert.ok(facts.includes(`${model.bits_per_byte.toFixed(3)} bits per byte`), facts);
        await write(page, 'Once upon a time');
        await rest(page);
        assert.notEqual(await page.evaluate(written), '');
      });
    });
  }

  test('the stop button stops the writing, and it can go on', async () => {
    await visitDemo('chromium', {}, async (page) => {
      await rest(page);
      await click(page, 'again');
      await page.waitFor(`${phase} === 'writing' && ${written}.length >= 5`);
      assert.equal(await page.evaluate(text('main-action')), 'Stop');
      await page.page.click('#main-action');
      await page.waitFor(`${phase} === 'paused'`, 5000);
      const stopped = await page.evaluate(written);
      await page.page.waitForTimeout(500); // twenty characters at this pace, if it went on
      assert.equal(await page.evaluate(written), stopped);

      assert.equal(await page.evaluate(text('main-action')), 'Continue');
      await page.page.click('#main-action');
      await page.waitFor(`${written}.length > ${stopped.length}`);
      assert.ok((await page.evaluate(written)).startsWith(stopped));
    });
  });

  test('the same seed tells the same story, another seed another', async () => {
    await visitDemo('chromium', {}, async (page) => {
      const tell = async (seed) => {
        await rest(page);
        await page.page.fill('#seed', seed);
        await write(page, 'Lily had a blue boat');
        await rest(page);
        assert.equal(await page.evaluate(given), 'Lily had a blue boat');
        return (await page.evaluate(written)).slice(0, 400); // where a telling pauses depends on the pace
      };
      const first = await tell('42');
      assert.equal(await tell('42'), first);
      assert.notEqual(await tell('43'), first);
    });
  });

  test('stop ends the reading of a long prompt, and the story can still be told', async (t) => {
    await visitDemo('chromium', {}, async (page) => {
      await rest(page);
      await page.page.fill('#seed', '5');
      await write(page, 'Once upon a time there was a fox. '.repeat(3000));
      await page.page.waitForTimeout(500);
      const stopMs = await page.evaluate(`new Promise((resolve) => {
        const pressed = performance.now();
        new MutationObserver(() => resolve(performance.now() - pressed)).observe(document.body, { attributeFilter: ['data-phase'] });
        document.getElementById('main-action').click();
      })`);
      t.diagnostic(`stopped after ${stopMs} ms`);
      assert.equal(await page.evaluate(phase), 'paused');
      assert.equal(await page.evaluate(written), '', 'the prompt had been read to its end');

      // Of a shorter one: continued, it is the story that it would have been.
      await write(page, 'Once upon a time there was a fox. '.repeat(400));
      await page.page.click('#main-action');
      await page.waitFor(`${phase} === 'paused'`);
      assert.equal(await page.evaluate(written), '');
      await page.page.click('#main-action');
      await page.waitFor(`${phase} === 'writing'`);
      await rest(page);
      const told = (await page.evaluate(written)).slice(0, 300);
      await click(page, 'again');
      await rest(page);
      assert.notEqual(told, '');
      assert.equal((await page.evaluate(written)).slice(0, 300), told);
    });
  });

  test('a kept seed tells the same story again; without one it is another, and the button says which', async () => {
    await visitDemo('chromium', {}, async (page) => {
      const again = async () => {
        await page.page.click(`#${(await page.evaluate(phase)) === 'finished' ? 'main-action' : 'again'}`);
        await rest(page);
        return (await page.evaluate(written)).slice(0, 300);
      };
      await rest(page);
      const first = (await page.evaluate(written)).slice(0, 300);
      assert.equal(await page.evaluate(text('again')), 'Another');
      const second = await again();
      assert.notEqual(second, first);
      await page.page.click('#seed-shown');
      assert.equal(await page.evaluate(text('again')), 'Retell');
      assert.equal(await again(), second);
      assert.equal(await again(), second);
      await page.page.click('#seed-clear');
      assert.equal(await page.evaluate(text('again')), 'Another');
      assert.notEqual(await again(), second);
    });
  });

  test("a new story leaves the link behind, its seed and the address's", async () => {
    await visitDemo('chromium', {}, async (page, server) => {
      await rest(page);
      await page.page.click('#share');
      const hash = await page.waitFor('location.hash');
      await page.page.goto('about:blank');
      await page.goto(`${server.origin}/${hash}`);
      await rest(page);
      await page.waitFor(`${text('note')}.includes('byte for byte')`);
      const told = await page.evaluate(given);
      await page.page.click('.example >> nth=1');
      assert.equal(await page.evaluate('location.hash'), '');
      await rest(page);
      assert.notEqual(await page.evaluate(given), told);
    });
  });

  test('a reload keeps the text, who wrote what, the settings and the model', async () => {
    await visitDemo('chromium', {}, async (page) => {
      await rest(page);
      await choose(page, hierarchical);
      const fields = { temperature: '0.3', 'top-k': '20', 'top-p': '0.8', seed: '77' };
      for (const [id, value] of Object.entries(fields)) await page.page.fill(`#${id}`, value);
      await write(page, 'A blue boat');
      await rest(page);
      const told = await page.evaluate(written);
      await page.page.reload();
      await rest(page);
      for (const [id, value] of Object.entries(fields)) assert.equal(await page.page.inputValue(`#${id}`), value);
      assert.equal(await page.evaluate(text('temperature-shown')), '0.30');
      assert.equal(await page.evaluate(given), 'A blue boat');
      assert.equal(await page.evaluate(written), told);
      assert.deepEqual(await page.evaluate(own), ['A blue boat']);
      assert.ok((await page.evaluate(text('facts'))).includes(hierarchical.name));
      await click(page, 'again');
      await rest(page);
      assert.equal(await page.evaluate(text('seed-shown')), '77');
      assert.equal((await page.evaluate(written)).slice(0, 300), told.slice(0, 300));
    });
  });

  test('a slider that is moved while a story is written holds from the next one on, as the page says', async () => {
    await visitDemo('chromium', {}, async (page) => {
      const temperature = async () => {
        await page.page.click('#main-action'); // Stop
        await page.waitFor(`${phase} === 'paused'`);
        await page.page.click('#share');
        await page.waitFor("location.hash !== ''");
        return page.evaluate("new URLSearchParams(location.hash.slice(1)).get('temperature')");
      };
      await rest(page);
      assert.match(await page.evaluate(text('settings')), /What you change here holds from what is told next/);
      await click(page, 'again');
      await page.waitFor(`${written}.length >= 3`);
      await page.page.fill('#temperature', '1.2');
      assert.equal(await page.evaluate(text('temperature-shown')), '1.20');
      assert.equal(await temperature(), '0.5');
      await click(page, 'again');
      await page.waitFor(`${written}.length >= 3`);
      assert.equal(await temperature(), '1.2');
    });
  });

  test('a seed that is too large is refused with a sentence, also after a reload, and the page goes on', async () => {
    await visitDemo('chromium', {}, async (page) => {
      const refused = `${text('note')}.startsWith('Not started: seed must be a whole number')`;
      await rest(page);
      const told = await page.evaluate(written);
      await page.page.fill('#seed', '99999999999999999999');
      await click(page, 'again');
      await page.waitFor(refused);
      assert.equal(await page.evaluate(written), told, 'the story before is still there');
      await page.page.reload();
      await rest(page);
      await click(page, 'again');
      await page.waitFor(refused);
      assert.equal(await page.evaluate(written), told);
      await page.page.click('#seed-clear');
      await click(page, 'again');
      await rest(page);
      assert.notEqual(await page.evaluate(written), told);
    });
  });

  test('the focus never falls to the body, whatever is pressed', async () => {
    await visitDemo('chromium', {}, async (page) => {
      const focused = async (what) => {
        await page.page.waitForTimeout(100); // the browser takes it from what is gone with the next frame
        assert.notEqual(await page.evaluate('document.activeElement.tagName'), 'BODY', what);
      };
      const press = async (id) => {
        await page.page.focus(`#${id}`);
        await page.page.keyboard.press('Enter');
        await focused(id);
        await rest(page);
        await focused(`${id}, later`);
      };
      await rest(page);
      for (const id of ['main-action', 'seed-shown', 'share', 'undo', 'clear', 'tab-proof']) await press(id);
      await page.page.keyboard.press('Control+Enter'); // with the focus on Share, which is disabled while writing
      await focused('Control+Enter');
      await rest(page);
      for (let tries = 0; tries < 3; tries++) {
        await press((await page.evaluate("document.getElementById('again').hidden")) ? 'main-action' : 'again');
      }
      await page.goto(`${new URL(page.page.url()).origin}/?model=https://example.org/model.gguf`);
      await page.waitFor(`${phase} === 'broken'`);
      await page.page.focus('#retry');
      await page.page.keyboard.press('Enter');
      await focused('retry');
    });
  });

  const screens = { 320: 640, 360: 740, 768: 1024, 1280: 800 };
  for (const [width, height] of Object.entries(screens)) {
    test(`at ${width} px the text is near the top, nothing sticks out or moves, the ending is in sight`, async (t) => {
      const viewport = { width: Number(width), height };
      await visitDemo('chromium', { path: '/probe.js', viewport }, async (page, { origin }) => {
        await page.page.addInitScript(`
          window.__moved = [];
          new PerformanceObserver((list) => {
            for (const { value, sources } of list.getEntries())
              window.__moved.push([value, ...sources.map(({ node }) => node?.id || node?.className || node?.nodeName)]);
          }).observe({ type: 'layout-shift', buffered: true });`);
        await page.goto(`${origin}/`);
        await rest(page);
        await page.page.waitForTimeout(300);
        const moved = await page.evaluate('window.__moved');
        const sum = moved.reduce((all, [value]) => all + value, 0);
        t.diagnostic(`layout shift ${sum.toFixed(4)}`);
        assert.ok(sum <= 0.02, JSON.stringify(moved));

        const top = await page.evaluate("document.getElementById('text').getBoundingClientRect().top");
        assert.ok(top < height / 2, `the text begins ${top} px down`);

        let seed = 2n ** 64n; // the longest; not each tells a story that ends on its first page
        do {
          await fill(page, 'seed', String(--seed)); // in a panel that may be closed
          await click(page, 'again');
          await rest(page);
        } while ((await page.evaluate(phase)) !== 'finished');
        for (const scheme of ['light', 'dark']) {
          await page.page.emulateMedia({ colorScheme: scheme });
          mkdirSync(shots, { recursive: true });
          await page.page.screenshot({ path: `${shots}/demo-${width}-${scheme}.png` });
        }
        const outside = await page.evaluate(`[...document.querySelectorAll('.stage, .lens, .panel')].flatMap((card) =>
          [...card.querySelectorAll('*')]
            .filter((child) => !child.matches('.snippet *, .unseen'))
            .filter((child) => child.getBoundingClientRect().right > card.getBoundingClientRect().right + 0.5
              || (child.matches('button') && child.scrollWidth > child.clientWidth && !child.matches('.seed-shown')))
            .map((child) => child.id || child.className || child.tagName))`);
        assert.deepEqual(outside, []);
        assert.equal(await page.evaluate('document.documentElement.scrollWidth'), Number(width));

        const ending = `(({ top, bottom }) => ({ top, bottom, bar: document.querySelector('.desk').getBoundingClientRect().top }))(
          document.getElementById('ending').getBoundingClientRect())`;
        const lies = await page.evaluate(ending);
        assert.ok(lies.bottom <= lies.bar || lies.top >= height, `under the bar: ${JSON.stringify(lies)}`);
        await page.evaluate("document.getElementById('ending').scrollIntoView({ block: 'nearest' })");
        const seen = await page.evaluate(ending);
        assert.ok(seen.top >= 0 && seen.bottom <= seen.bar, JSON.stringify(seen));
      });
    });
  }
});

describe('demo without its script', { skip: missing('chromium') }, () => {
  const sentence = "document.getElementById('missing')";
  /** What a visitor reads there once nothing has come for a while. */
  async function readsWhy(frame) {
    await frame.locator('#missing').waitFor({ state: 'visible' });
    assert.match(await frame.evaluate(`${sentence}.innerText`), /script did not come.*opened as a file.*sandboxed/s);
    assert.equal(await frame.evaluate("document.getElementById('loading')"), null);
    assert.equal(await frame.evaluate('getComputedStyle(document.body).maxWidth'), '1184px', 'it has its style');
  }

  async function withPage(visit) {
    const [server, { page, close }] = [await serveDemo(), await open.chromium()];
    try {
      await visit(page, server);
    } finally {
      await close();
      await server.close();
    }
  }

  test('opened from a file it says what is missing', async () => {
    await withPage(async (page) => {
      await page.goto(new URL('../../web/dist/index.html', import.meta.url).href);
      await readsWhy(page);
    });
  });

  for (const cors of [false, true]) {
    test(`in a sandboxed frame it ${cors ? 'writes, where the server allows that' : 'says what is missing'}`, async () => {
      const server = await serveDemo({}, { open: cors });
      const frame = `<iframe sandbox="allow-scripts" src="${server.origin}" width="800" height="700"></iframe>`;
      const host = await serve('/nonexistent', { '/index.html': frame }, { policy: null });
      const { page, close } = await open.chromium();
      try {
        await page.goto(`${host.origin}/index.html`);
        const [, inner] = page.frames();
        if (cors) await inner.locator('[data-phase=paused], [data-phase=finished]').waitFor();
        else await readsWhy(inner);
      } finally {
        await close();
        await server.close();
        await host.close();
      }
    });
  }

  test('without JavaScript it says so', async () => {
    await withPage(async (page, server) => {
      const context = await page.context().browser().newContext({ javaScriptEnabled: false });
      const silent = await context.newPage();
      await silent.goto(server.origin);
      assert.match(await silent.innerText('#missing'), /JavaScript is turned off here/);
    });
  });
});

for (const browser of ['firefox', 'webkit']) {
  test(
    `demo in ${browser}: it stops in a long prompt, tells a kept seed again, and a reload keeps what was set`,
    {
      skip: missing(browser),
    },
    async (t) => {
      await visitDemo(browser, {}, async (page, { origin }) => {
        const told = async () => (await rest(page), (await page.evaluate(written)).slice(0, 300));
        await rest(page);
        await write(page, 'Once upon a time there was a fox. '.repeat(3000));
        await page.waitFor(`${phase} === 'writing'`);
        await page.evaluate(`void (window.__pressed = performance.now(), new MutationObserver(() => {
        window.__stopMs ??= performance.now() - window.__pressed;
      }).observe(document.body, { attributeFilter: ['data-phase'] }))`);
        await click(page, 'main-action');
        t.diagnostic(`stopped after ${await page.waitFor('window.__stopMs')} ms`);
        assert.equal(await page.evaluate(phase), 'paused');
        assert.equal(await page.evaluate(written), '');

        await fill(page, 'seed', '12');
        await write(page, 'The fox');
        const first = await told();
        assert.equal(await page.evaluate(text('again')), 'Retell');
        await click(page, 'again');
        assert.equal(await told(), first);

        await page.goto('about:blank');
        await page.goto(`${origin}/`);
        assert.equal(await told(), first, 'the text is as it was left');
        await click(page, 'again');
        assert.equal(await told(), first, 'the same words, settings and seed');
      });
    },
  );
}
