// Links to the demo: each ends in writing, a verdict or a sentence, whatever became of it on its way.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { check, click, phase, rest, text, visitDemo, written } from './demo.js';
import { missing } from './drivers.js';

const whole = {
  prompt: 'Lily had a blue boat',
  seed: '7',
  temperature: '0.5',
  'top-k': '40',
  'top-p': '0.95',
  bytes: '120',
  file: '',
  model: 'x',
  sha256: '01234567',
};
const toHash = (fields) => `#${new URLSearchParams(fields)}`;

/** What the page says of the link that it was opened with, as soon as it has said it. */
async function said(page) {
  await rest(page);
  return page.waitFor(text('note'), 5000);
}

/** The hash of a link that a fresh page gives for its first story. */
async function shared(page) {
  await rest(page);
  await click(page, 'share');
  return page.waitFor('location.hash');
}

/** Opens the page anew, with this hash. */
async function follow(page, server, hash) {
  await page.goto('about:blank');
  await page.goto(`${server.origin}/${hash}`);
}

// Park and Miller's generator: the same links in every run.
function random(state) {
  return (most) => (state = (state * 48271) % 2147483647) % most;
}

/** Links that were typed, cut, translated, or thought up. */
function fuzzed(count) {
  const draw = random(16);
  const pick = (list) => list[draw(list.length)];
  const absurd = [
    '',
    '0',
    '-5',
    '1e999',
    'NaN',
    '99999999999999999999',
    '0x10',
    '1e-9',
    '3.5',
    '٣',
    '%',
    'null',
    ' 7',
    '💧',
  ];
  const tails = ['', '.', ',', ')', '%', '%2', '&', '=', '#', '%E2%80%9D', '%00', '&seed=8', '\\'];
  return Array.from({ length: count }, () => {
    const fields = { ...whole };
    for (let changes = draw(3); changes > 0; changes--) {
      const name = pick(Object.keys(fields));
      if (draw(4) === 0) Reflect.deleteProperty(fields, name);
      else
        fields[name] = pick([...absurd, 'tinystories-3m5.gguf', 'no-such.gguf', 'ffffffff', '\u202e', '300', '100000']);
    }
    const hash = toHash(fields) + pick(tails);
    return draw(5) === 0 ? hash.slice(0, draw(hash.length)) : hash;
  });
}

describe('links in chromium', { skip: missing('chromium') }, () => {
  test('after 200 fuzzed links the page writes, has a verdict or says a sentence, and nothing was thrown', async () => {
    await visitDemo('chromium', {}, async (page, server) => {
      await rest(page);
      for (const [i, hash] of fuzzed(200).entries()) {
        const isStory = hash.includes('=');
        try {
          if (i % 10 === 0) {
            await follow(page, server, hash);
            await page.waitFor(`['writing', 'paused', 'finished'].includes(${phase})`, 5000);
            if (isStory) await page.waitFor(text('note'), 5000);
          } else {
            await page.evaluate(`location.hash = ''`);
            await page.evaluate(`void (location.hash = ${JSON.stringify(hash)})`);
            if (isStory) await page.waitFor(text('note'), 5000);
            assert.match(await page.evaluate(phase), /writing|paused|finished/);
          }
        } catch (error) {
          throw new Error(`${hash}: ${error.message}`, { cause: error });
        }
      }
    });
  });

  const sentences = {
    'seed=99999999999999999999': /seed should be a whole number below 2\^64, found "99999999999999999999"/,
    'top-k=0': /top-k should be a whole number from 1, found "0"/,
    'top-k=300': /topK must be a whole number from 1 to 256, found 300/,
    'temperature=1e-9': /temperature must be a number above 0/,
    'file=no-such.gguf': /told by "no-such.gguf", a model that is not here/,
    'bytes=-5': /bytes should be a whole number up to 100000, found "-5"/,
    'bytes=1e9': /bytes should be/,
    'sha256=xyz': /sha256 should be 8 hexadecimal digits/,
  };
  for (const [change, sentence] of Object.entries(sentences)) {
    test(`a link with ${change} says so, and a story is told`, async () => {
      const hash = toHash({ ...whole, ...Object.fromEntries([change.split('=')]) });
      await visitDemo('chromium', { path: `/${hash}` }, async (page) => {
        assert.match(await said(page), sentence);
        assert.notEqual(await page.evaluate(written), '');
        assert.equal(await page.evaluate('location.hash'), '');
      });
    });
  }

  test('a link that is followed while the model is on its way is not forgotten', async () => {
    await visitDemo('chromium', {}, async (page) => {
      await page.evaluate(`void (location.hash = ${JSON.stringify(toHash({ ...whole, 'top-k': '0' }))})`);
      assert.match(await said(page), /top-k should be/);
    });
  });

  test('a story that ends before its link does is told to be another', async () => {
    await visitDemo('chromium', {}, async (page, server) => {
      const hash = (await shared(page)).replace(/bytes=\d+/, 'bytes=90000');
      await follow(page, server, hash);
      await rest(page);
      await page.waitFor(`${text('note')}.startsWith('Different bytes: ended after ')`);
    });
  });

  test('a replay that was stopped says how far it came, and has its verdict in the end', async () => {
    await visitDemo('chromium', {}, async (page, server) => {
      const hash = await shared(page);
      await follow(page, server, hash);
      await page.waitFor(`${written}.length > 10`);
      await page.page.click('#main-action');
      await page.waitFor(`/^Stopped after \\d+ of \\d+ bytes/.test(${text('note')})`);
      await check(page, 'slowly', false);
      await page.page.click('#main-action');
      await page.waitFor(`${text('note')}.includes('Told again byte for byte')`);
    });
  });
});

for (const browser of ['chromium', 'firefox', 'webkit']) {
  test(
    `in ${browser} a link is told again byte for byte, with what a chat program adds behind it`,
    {
      skip: missing(browser),
    },
    async () => {
      await visitDemo(browser, {}, async (page, server) => {
        const hash = await shared(page);
        for (const tail of ['', '.', ')', '%E2%80%9D']) {
          await follow(page, server, hash + tail);
          await rest(page);
          await page.waitFor(`${text('note')}.includes('Told again byte for byte')`, 30_000);
        }
        await follow(page, server, hash.replace(/sha256=......../, 'sha256=01234567'));
        await rest(page);
        await page.waitFor(`/^Different bytes: expected checksum 01234567/.test(${text('note')})`, 30_000);
      });
    },
  );
}
