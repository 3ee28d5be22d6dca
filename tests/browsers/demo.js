// What the tests of the demo page have in common: a browser on the built page, and what they look at there.
import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { open } from './drivers.js';
import { serve } from './server.js';

export const here = (path) => fileURLToPath(new URL(path, import.meta.url));
const built = here('../../web/dist');

export const text = (id) => `document.getElementById('${id}').textContent`;
export const phase = 'document.body.dataset.phase';

/** Waits until the page has paused or finished its story; a page that says it cannot go on fails at once. */
export async function rest(page) {
  const reached = await page.waitFor(`['paused', 'finished', 'broken'].find((name) => name === ${phase})`, 120_000);
  assert.notEqual(reached, 'broken', await page.evaluate(`${text('problem-title')} + ': ' + ${text('problem-text')}`));
}

/** The policy that the built page carries. */
export function ownPolicy() {
  assert.ok(existsSync(`${built}/index.html`), 'web/dist is not built: run npm run build:demo');
  const html = readFileSync(`${built}/index.html`, 'utf8');
  return /http-equiv="Content-Security-Policy" content="([^"]*)"/.exec(html)[1].replaceAll('&#39;', "'");
}

/** The built page on a server that sends that policy; `options` as for serve(). */
export const serveDemo = (files = {}, options = {}) => serve(built, files, { policy: ownPolicy(), ...options });

/**
 * Runs `visit` in a fresh browser on the built page, and expects that nothing was complained about meanwhile but what
 * `expected` matches. `path`: where to begin; `files` and `serving`: as for serve(); `options`: of the browser.
 */
export async function visitDemo(browser, { path = '/', files = {}, serving = {}, expected = /^$/, ...options }, visit) {
  const server = await serveDemo(files, serving);
  const page = await open[browser](options);
  try {
    await page.goto(`${server.origin}${path}`);
    await visit(page, server);
    const problems = [...(await page.problems()), ...server.problems];
    assert.deepEqual(
      problems.filter((problem) => !expected.test(problem)),
      [],
    );
  } finally {
    await page.close();
    await server.close();
  }
}
