// What the tests of the demo page have in common: a browser on the built page, and what they look at there.
import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { open } from './drivers.js';
import { serve } from './server.js';

export const here = (path) => fileURLToPath(new URL(path, import.meta.url));
const built = here('../../web/dist');

/** Empty where the page does not show it now. */
export const text = (id) => `(document.getElementById('${id}')?.textContent ?? '')`;
export const phase = 'document.body.dataset.phase';

const field = "document.getElementById('text')";
/** What the model wrote last, and what it was given. */
export const written = `${field}.textContent.slice(Number(${field}.dataset.from))`;
export const given = `${field}.textContent.slice(0, Number(${field}.dataset.from))`;

/** Has the page write at the speed of the engine, if it is at it. */
const skip = `(() => {
  const button = document.getElementById('again');
  if (${phase} === 'writing' && button?.textContent === 'Skip') button.click();
})()`;

/** Waits until the page writes nothing; a page that says it cannot go on fails at once. */
export async function rest(page) {
  const reached = await page.waitFor(
    `(${skip}, ['ready', 'paused', 'finished', 'broken'].find((name) => name === ${phase}))`,
    120_000,
  );
  assert.notEqual(reached, 'broken', await page.evaluate(`${text('problem-title')} + ': ' + ${text('problem-text')}`));
}

/** Clicks as a script does, which needs no panel to be open. */
export const click = (page, id) => page.evaluate(`void document.getElementById('${id}').click()`);

/** Puts a value into an input, or words into the text, as typing them would. */
export async function fill(page, id, value) {
  await page.evaluate(`(() => {
    const input = document.getElementById('${id}');
    input[input.isContentEditable ? 'textContent' : 'value'] = ${JSON.stringify(value)};
    input.dispatchEvent(new Event('input', { bubbles: true }));
  })()`);
}

/** Sets a box. */
export async function check(page, id, isChecked) {
  await page.evaluate(
    `document.getElementById('${id}').checked !== ${isChecked} && document.getElementById('${id}').click()`,
  );
}

/** Has the model go on after these words, alone on the page. */
export async function write(page, words) {
  await fill(page, 'text', words);
  await click(page, 'main-action');
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
