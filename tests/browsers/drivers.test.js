// The three browsers start here, run WebAssembly under the strict policy, and every kind of misbehaviour is seen.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { missing, open } from './drivers.js';
import { serve } from './server.js';

// A module with SIMD128 that exports f() = 42: i32x4.extract_lane 0 (i32x4.splat (i32.const 42)).
const SIMD = [
  [0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 127, 3, 2, 1, 0, 7, 5, 1, 1, 102, 0, 0],
  [10, 11, 1, 9, 0, 65, 42, 253, 17, 253, 27, 0, 11],
].flat();

const files = {
  '/index.html':
    '<!doctype html><html lang="en"><head><title>well</title></head><body><script type="module" src="/well.js"></script></body></html>',
  '/well.js': `
    const { instance } = await WebAssembly.instantiate(new Uint8Array([${SIMD}]));
    window.__result = { answer: instance.exports.f() };`,
  '/bad.html':
    '<!doctype html><html lang="en"><head><title>bad</title></head><body><script type="module" src="/bad.js"></script></body></html>',
  '/bad.js': `
    console.error('a message nobody should see');
    await fetch('http://127.0.0.2:9/other-origin').catch(() => {});
    try { window.evaluated = new Function('return true')(); } catch { window.evaluated = false; }
    window.__result = { evaluated: window.evaluated };
    setTimeout(() => { throw new Error('thrown on purpose'); });`,
};

for (const browser of ['chromium', 'firefox', 'webkit']) {
  describe(browser, { skip: missing(browser) }, () => {
    test('runs WebAssembly with SIMD under the strict policy, without a complaint', async () => {
      const server = await serve('/nonexistent', files);
      const page = await open[browser]();
      try {
        await page.goto(`${server.origin}/index.html`);
        assert.deepEqual(await page.waitFor('window.__result'), { answer: 42 });
        assert.deepEqual(await page.problems(), []);
        assert.deepEqual(server.problems, []);
      } finally {
        await page.close();
        await server.close();
      }
    });

    test('shows a console error, an uncaught error, a request to another origin and refused code', async () => {
      const server = await serve('/nonexistent', files);
      const page = await open[browser]();
      try {
        await page.goto(`${server.origin}/bad.html`);
        assert.deepEqual(await page.waitFor('window.__result'), { evaluated: false });
        const seen = (
          (await page.waitFor('window.__problems.length >= 2')) && [...(await page.problems()), ...server.problems]
        ).join('\n');
        assert.match(seen, /a message nobody should see/);
        assert.match(seen, /thrown on purpose/);
        assert.match(seen, /refused by the Content-Security-Policy.*127\.0\.0\.2/);
      } finally {
        await page.close();
        await server.close();
      }
    });
  });
}
