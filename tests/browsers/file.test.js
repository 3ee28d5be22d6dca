// What the demo page makes of a file of the reader's own: a text is measured, compressed and found again, a model is looked into.
import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import { brotliCompressSync, gzipSync } from 'node:zlib';
import { click, here, phase, rest, text, visitDemo } from './demo.js';
import { missing } from './drivers.js';

const folder = mkdtempSync(join(tmpdir(), 'ternlm-file-'));
after(() => rmSync(folder, { recursive: true }));

const stories = readFileSync(here('../data/stories.txt'));
const shown = (number) => number.toLocaleString('en');
const size = async (page, id) =>
  Number((await page.waitFor(`/^\\d/.test(${text(id)}) && ${text(id)}`)).replaceAll(',', ''));
const within = (found, expected, share) =>
  assert.ok(Math.abs(found / expected - 1) <= share, `${found}, not ${expected}`);

/** Lets a file fall on the page. */
async function drop(page, name, bytes) {
  await page.evaluate(`(() => {
    const bytes = Uint8Array.from(atob('${Buffer.from(bytes).toString('base64')}'), (letter) => letter.charCodeAt(0));
    const files = new DataTransfer();
    files.items.add(new File([bytes], ${JSON.stringify(name)}));
    for (const type of ['dragover', 'drop'])
      document.body.dispatchEvent(new DragEvent(type, { dataTransfer: files, bubbles: true, cancelable: true }));
  })()`);
}

/** What the link saves, as a file. */
async function saved(page, name) {
  const [download] = await Promise.all([page.page.waitForEvent('download'), page.page.click('.download')]);
  assert.equal(download.suggestedFilename(), name);
  const path = join(folder, name);
  await download.saveAs(path);
  return path;
}

/** A GGUF file of an architecture that nobody has, with one tensor of 256 x 2 in Q8_0. */
function stranger() {
  const parts = [];
  const u32 = (...numbers) => parts.push(Buffer.from(Uint32Array.from(numbers).buffer));
  const u64 = (...numbers) => parts.push(Buffer.from(BigUint64Array.from(numbers.map(BigInt)).buffer));
  const words = (string) => (u64(string.length), parts.push(Buffer.from(string)));
  parts.push(Buffer.from('GGUF'));
  u32(3);
  u64(1, 1);
  words('general.architecture');
  u32(8);
  words('abacus');
  words('beads.weight');
  u32(2);
  u64(256, 2);
  u32(8);
  u64(0);
  const header = Buffer.concat(parts);
  return Buffer.concat([header, Buffer.alloc(-header.length & 31), Buffer.alloc(544)]);
}

describe('your file, in chromium', { skip: missing('chromium') }, () => {
  test('a text has its curve and sizes, and comes back from what the model made of it', async () => {
    const data = stories.subarray(0, 6000);
    await visitDemo('chromium', {}, async (page) => {
      await rest(page);
      await drop(page, 'a story.txt', data);
      await page.waitFor(`${text('file-bits')}.includes('over 6,000 bytes')`, 120_000);
      const bits = Number(/^[\d.]+/.exec(await page.evaluate(text('file-bits')))[0]);
      assert.ok(bits > 0.6 && bits < 1.3, `${bits} bits a byte`);
      within(await size(page, 'size-gzip'), gzipSync(data).length, 0.03);
      within(await size(page, 'size-brotli'), brotliCompressSync(data).length, 0.03);
      assert.equal(await size(page, 'size-plain'), 6000);
      const best = await size(page, 'size-model');
      within(best, (6000 * bits) / 8, 0.002);
      assert.ok((await page.evaluate("document.getElementById('file-curve').getAttribute('d')")).length > 500);
      assert.equal(await page.evaluate(text('requests')), '0', 'what fetched the parts of the page is not counted');

      await click(page, 'file-compress');
      await page.waitFor(`${text('file-verdict')}.includes('all 6,000 bytes are equal ✓')`, 120_000);
      const made = await size(page, 'size-model');
      assert.ok(made >= best && made < best + 60, `${made} bytes, ${best} at best`);
      const path = await saved(page, 'a story.txt.tnc');
      assert.equal(readFileSync(path).length, made);
      await page.page.setInputFiles('#any-file', path);
      await page.waitFor(`${text('unpacked')}.startsWith('Found again, 6,000 bytes')`, 120_000);
      assert.deepEqual(readFileSync(await saved(page, 'a story.txt')), data);

      const damaged = readFileSync(path);
      damaged[200] ^= 1;
      await drop(page, 'a story.txt.tnc', damaged);
      await page.waitFor(
        `${text('unpacked')}.startsWith('a story.txt was not found again: the compressed data is damaged')`,
      );
    });
  });

  test('of a large file the beginning is read, with its progress, and Stop leaves what there is', async () => {
    const path = join(folder, 'large.txt');
    writeFileSync(path, Buffer.concat(Array.from({ length: 25 }, () => stories)));
    await visitDemo('chromium', { viewport: { width: 390, height: 844 } }, async (page) => {
      await rest(page);
      await page.evaluate("document.getElementById('your-file').open = true");
      await page.waitFor("document.getElementById('any-file') !== null");
      await page.page.setInputFiles('#any-file', path);
      await page.waitFor(`${text('file-limit')}.startsWith('Only its first 1,000,000 bytes are read')`);
      await page.waitFor("document.querySelector('.measured progress')?.value > 0");
      assert.match(await page.evaluate("document.querySelector('.measured .row').innerText"), /\d+ (s|min) left/);
      await click(page, 'file-stop');
      await page.waitFor(`${text('file-bits')}.endsWith('Stopped here.')`, 2000);
      const done = await size(page, 'size-plain');
      assert.ok(done > 0 && done < 1_000_000);
      within(await size(page, 'size-gzip'), gzipSync(stories.subarray(0, done)).length, 0.03);
      assert.equal(
        await page.evaluate("document.getElementById('file-compress')"),
        null,
        'not the whole file was read',
      );
      assert.equal(await page.evaluate('document.documentElement.scrollWidth'), 390);
    });
  });

  test('an empty file, bytes that are no text, and the text on the page are files, too', async () => {
    await visitDemo('chromium', {}, async (page) => {
      await rest(page);
      await drop(page, 'empty', new Uint8Array(0));
      await page.waitFor("document.querySelector('.measured')?.innerText.includes('The file is empty')");
      await drop(
        page,
        'noise',
        Uint8Array.from({ length: 600 }, (_, i) => (i * i * 7919 + 31 * i) >> 3),
      );
      await page.waitFor(`${text('file-bits')}.includes('over 600 bytes')`);
      await click(page, 'file-compress');
      await page.waitFor(`${text('file-verdict')}.includes('all 600 bytes are equal ✓')`);
      const told = await page.evaluate("new TextEncoder().encode(document.getElementById('text').textContent).length");
      await click(page, 'measure-sheet');
      await page.waitFor(`${text('file-bits')}.includes('over ${shown(told)} bytes')`);
    });
  });

  test('a model file is opened and its weights are counted; one of others is looked into, and it is said why it does not open', async () => {
    await visitDemo('chromium', {}, async (page) => {
      await rest(page);
      await drop(page, 'mine.gguf', readFileSync(here('../golden/tiny_gate.gguf')));
      await page.waitFor(`/^−1 [\\d.]+ % · 0 [\\d.]+ % · \\+1 [\\d.]+ % of [\\d,]+ weights/.test(${text('shares')})`);
      const shares = [...(await page.evaluate(text('shares'))).matchAll(/([\d.]+) %/g)].map(([, share]) =>
        Number(share),
      );
      within(
        shares.reduce((a, b) => a + b),
        100,
        0.002,
      );
      await page.waitFor(`!${text('facts')}.includes('TinyStories') && ${phase} !== 'loading'`);
      const own = await page.evaluate(text('facts'));

      await drop(page, 'abacus.gguf', stranger());
      await page.waitFor(`${text('refused')}.startsWith('It was not opened: ')`);
      assert.match(await page.evaluate(text('refused')), /abacus|beads/);
      assert.match(await page.evaluate(text('inspected')), /no ternary matrix.*beads256 × 2Q8_0/);
      assert.equal(await page.evaluate(text('facts')), own, 'the model that was there is still there');
      assert.match(await page.evaluate(text('note')), /^abacus.gguf was not opened: /);
    });
  });
});

for (const browser of ['firefox', 'webkit']) {
  test(
    `your file in ${browser}: a text is measured, compressed and found again`,
    { skip: missing(browser) },
    async () => {
      await visitDemo(browser, {}, async (page) => {
        await rest(page);
        await page.evaluate("void (document.getElementById('your-file').open = true)");
        await page.waitFor("document.getElementById('measure-sheet') !== null");
        await click(page, 'measure-sheet');
        await page.waitFor(`${text('size-brotli')} !== '' && ${text('size-brotli')} !== '…'`);
        assert.ok((await size(page, 'size-brotli')) < (await size(page, 'size-gzip')));
        await click(page, 'file-compress');
        await page.waitFor(`${text('file-verdict')}.includes('bytes are equal ✓')`, 120_000);
      });
    },
  );
}
