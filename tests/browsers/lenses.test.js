// What the demo's lenses show of a text, and what can be done from there.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { click, fill, given, phase, rest, text, visitDemo, write, written } from './demo.js';
import { missing } from './drivers.js';

const whole = "document.getElementById('text').textContent";
const marked = (name) =>
  `[...(CSS.highlights.get('${name}') ?? [])].map((range) => [range.startOffset, range.endOffset])`;

/** Puts the reader's cursor before a character of the text, as a click does. */
const putCursor = (page, at) =>
  page.evaluate(`(() => {
    const field = document.getElementById('text');
    field.focus();
    getSelection().collapse(field.firstChild, ${at});
  })()`);

describe('lenses in chromium', { skip: missing('chromium') }, () => {
  test('Surprise colours the text, tells what was expected at a byte, follows the settings, and branches', async () => {
    await visitDemo('chromium', {}, async (page) => {
      await rest(page);
      const told = await page.evaluate(whole);
      const from = (await page.evaluate(given)).length;
      await click(page, 'tab-surprise');
      await page.waitFor(`${text('scored')} === ${JSON.stringify(told.length.toLocaleString('en'))}`);
      const bits = Number(await page.evaluate(text('bits-per-byte')));
      assert.ok(bits > 0.1 && bits < 2, `${bits} bits a byte in a story of its own`);
      const heat = [];
      for (let level = 1; level <= 5; level++) heat.push(...(await page.evaluate(marked(`heat-${level}`))));
      const coloured = heat.reduce((sum, [start, end]) => sum + end - start, 0);
      assert.ok(coloured > told.length / 20 && coloured < told.length, `${coloured} of ${told.length} are coloured`);

      // Every character of the story was among what could be drawn; the model's own seed drew it.
      await putCursor(page, from + 30);
      const label = JSON.stringify(told[from + 30].replace(' ', '␣'));
      await page.waitFor(`document.querySelector('#looked b')?.textContent === ${label}`);
      assert.deepEqual(await page.evaluate(marked('looked')), [[from + 30, from + 31]]);
      const likely =
        "[...document.querySelectorAll('#likely li')].map((one) => [one.querySelector('code').textContent, one.querySelector('meter').value])";
      await page.waitFor(`${likely}.length === 10`);
      const cool = await page.evaluate(likely);
      for (let i = 1; i < cool.length; i++) assert.ok(cool[i][1] <= cool[i - 1][1], JSON.stringify(cool));

      const spectrum = "document.getElementById('spectrum').getAttribute('d')";
      const before = await page.evaluate(spectrum);
      await fill(page, 'lens-temperature', '2');
      await fill(page, 'lens-top-k', '3');
      await fill(page, 'lens-top-p', '1');
      await page.waitFor(`${spectrum} !== ${JSON.stringify(before)}`);
      const warm = await page.evaluate(likely);
      assert.ok(warm[0][1] < cool[0][1] || cool[0][1] === 1, 'a higher temperature is less sure');
      assert.equal(warm.filter(([, share]) => share > 0).length, 3, 'top-k 3 leaves three');
      assert.equal(await page.evaluate(text('temperature-shown')), '2.00', 'it is the same setting');

      const choice = warm.findIndex(([name]) => /^[a-z␣.,]$/.test(name) && JSON.stringify(name) !== label);
      await page.evaluate(`void document.querySelectorAll('#likely button')[${choice}].click()`);
      await rest(page);
      const other = await page.evaluate(whole);
      assert.equal(other.slice(0, from + 30), told.slice(0, from + 30));
      assert.equal(other[from + 30], warm[choice][0].replace('␣', ' '));
      assert.ok(other.length > from + 31, 'the model went on');
      assert.ok((await page.evaluate(text('branches'))).includes(told.slice(from + 30)), 'the other way is beside it');
    });
  });

  test('State shows a picture for each block, that moves with the place, and half-lives', async () => {
    await visitDemo('chromium', {}, async (page) => {
      const picture = "document.getElementById('memory-3').toDataURL()";
      await rest(page);
      await click(page, 'tab-state');
      for (let block = 0; block < 4; block++) {
        const said = await page.waitFor(text(`half-life-${block}`));
        const [, median, slow] = /half-life ([\d.>]+) bytes, the slowest tenth ([\d.>]+)/.exec(said);
        assert.ok(Number(median) > 0.1 && Number(median) < 1000, said);
        assert.ok(Number(slow.replace('>', '')) >= Number(median), said);
      }
      const end = await page.evaluate(picture);
      await fill(page, 'timeline', '100');
      await page.waitFor(`${picture} !== ${JSON.stringify(end)}`);
      assert.match(await page.evaluate(text('timeline-shown')), /^byte 100 of/);
    });
  });

  test('the text goes on from where the timeline is put; what came there is a branch, and undo leads back', async () => {
    await visitDemo('chromium', {}, async (page) => {
      await rest(page);
      const told = await page.evaluate(whole);
      const from = (await page.evaluate(given)).length;
      await fill(page, 'timeline', String(from + 100));
      await page.waitFor(`${text('main-action')} === 'Go on here'`);
      assert.deepEqual(await page.evaluate(marked('after')), [[from + 100, told.length]]);
      await click(page, 'main-action');
      await rest(page);
      const other = await page.evaluate(whole);
      assert.equal(other.slice(0, from + 100), told.slice(0, from + 100));
      assert.notEqual(other, told);
      assert.ok((await page.evaluate(text('branches'))).endsWith(told.slice(from + 100)));

      await page.evaluate("void document.querySelector('#branches button').click()");
      assert.equal(await page.evaluate(whole), told);
      assert.ok((await page.evaluate(text('branches'))).endsWith(other.slice(from + 100)));
      await click(page, 'undo');
      assert.equal(await page.evaluate(whole), other);
      await click(page, 'undo');
      assert.equal(await page.evaluate(whole), told);
      await page.waitFor(`${phase} === 'finished'`);
      assert.equal(await page.evaluate("document.getElementById('share').disabled"), false, 'the take is there again');
    });
  });

  test("typing in the middle stops the writing, is the reader's own, and the model goes on after it", async () => {
    await visitDemo('chromium', {}, async (page) => {
      await page.waitFor(`${written}.length > 40`);
      await putCursor(page, (await page.evaluate(given)).length + 20);
      await page.page.keyboard.type('Then a dragon came. ');
      assert.equal(await page.evaluate(phase), 'paused');
      const own = await page.evaluate(marked('own'));
      const typed = await page.evaluate(whole);
      assert.equal(own.length, 2);
      assert.equal(typed.slice(...own[1]), 'Then a dragon came. ');
      assert.ok(typed.length > own[1][1], 'what came after is still there');
      await page.page.keyboard.press('Control+Enter');
      await rest(page);
      assert.equal((await page.evaluate(whole)).slice(0, own[1][1]), typed.slice(0, own[1][1]));
      assert.ok((await page.evaluate(given)).endsWith('Then a dragon came. '));
      await page.page.keyboard.press('Escape');
    });
  });

  test('an empty text, emoji, right to left and 100 KB are texts like others', async () => {
    await visitDemo('chromium', {}, async (page) => {
      await rest(page);
      await click(page, 'clear');
      assert.equal(await page.evaluate(whole), '');
      await click(page, 'main-action');
      await rest(page);
      assert.notEqual(await page.evaluate(written), '');
      for (const words of ['🦊🦊 said 👩‍👩‍👧', 'פעם אחת היה שועל', '\n\nA fox', ' ']) {
        await click(page, 'clear'); // else a last letter that is the same stays the model's
        await write(page, words);
        await rest(page);
        assert.equal(await page.evaluate(given), words);
      }
      await click(page, 'clear');
      await fill(page, 'text', 'Once upon a time there was a fox. '.repeat(3000));
      await click(page, 'main-action');
      await click(page, 'main-action');
      await page.waitFor(`${phase} === 'paused'`, 5000);
      assert.equal(await page.evaluate(`${whole}.length`), 102_000);
    });
  });
});
