// Threads in the three browsers: the golden bytes with any number of them, one thread where there can be no more, and no
// thread left behind.
import assert from 'node:assert/strict';
import { readFileSync, readdirSync } from 'node:fs';
import { describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { missing, open } from './drivers.js';
import { serve } from './server.js';

const built = fileURLToPath(new URL('../../build/browser-page', import.meta.url));

// The engine with threads is built in relaxed SIMD, which WebKit and old ones of Firefox do not have.
const alwaysRelaxed = ['chromium'];
const workers = /^(DedicatedWorker|DOM Worker)/; // what the browsers call the operating system's threads of workers

async function inIsolatedPage(browser, query, run) {
  const server = await serve(built, {}, { isolated: true });
  const page = await open[browser]();
  try {
    await page.goto(`${server.origin}/${query}`);
    await run(page, server);
  } finally {
    await page.close();
    await server.close();
  }
}

/** Threads of workers in all processes that this one has started, directly or not. */
function workerThreads() {
  const parents = new Map();
  for (const pid of readdirSync('/proc').filter((name) => /^\d+$/.test(name))) {
    try {
      parents.set(
        pid,
        readFileSync(`/proc/${pid}/stat`, 'utf8')
          .replace(/^.*\) /, '')
          .split(' ')[1],
      );
    } catch {
      // It has ended.
    }
  }
  const isOurs = (pid) => pid === String(process.pid) || (parents.has(pid) && isOurs(parents.get(pid)));
  return [...parents.keys()].filter(isOurs).flatMap((pid) => {
    try {
      const names = readdirSync(`/proc/${pid}/task`).map((task) =>
        readFileSync(`/proc/${pid}/task/${task}/comm`, 'utf8'),
      );
      return names.filter((name) => workers.test(name));
    } catch {
      return [];
    }
  }).length;
}

async function until(condition, what) {
  for (const end = Date.now() + 60_000; !condition(); await sleep(50)) assert.ok(Date.now() < end, what());
}

for (const browser of ['chromium', 'firefox', 'webkit']) {
  describe(`threads in ${browser}`, { skip: missing(browser) }, () => {
    test('in a page that is isolated from other origins', async (t) => {
      await inIsolatedPage(browser, '?threads', async (page, server) => {
        const { checks, notes } = await page.waitFor('window.__result', 180_000);
        for (const { name, error } of checks) await t.test(name, () => assert.equal(error, null));
        assert.ok(notes.hasRelaxed || !alwaysRelaxed.includes(browser), 'no relaxed SIMD');
        await t.test(notes.hasRelaxed ? 'threads are what runs' : 'one thread runs, and says why', () => {
          assert.equal(notes.isolated, true);
          const { variant, threads } = notes['threads 3'];
          if (notes.hasRelaxed) {
            assert.deepEqual([variant, threads], ['threads', { count: 3, reason: '' }]);
            assert.match(notes['threads auto'].threads.reason, /^measured/);
          } else {
            assert.deepEqual([variant, threads.count], ['simd', 1]);
            assert.match(threads.reason, /relaxed SIMD|isolated/);
          }
        });
        assert.deepEqual([...(await page.problems()), ...server.problems], []);
        t.diagnostic(JSON.stringify(notes));
      });
    });

    test('close ends the threads, in the middle of work and after an abort', async (t) => {
      const before = workerThreads();
      await inIsolatedPage(browser, '?hold', async (page) => {
        await page.waitFor("typeof window.__release === 'function'");
        if (!(await page.evaluate('window.__hasRelaxed'))) return t.skip(`this ${browser} has no relaxed SIMD`);
        const held = () => workerThreads() - before; // Firefox has some of its own
        await until(
          () => held() >= 6,
          () => `two engines with two more threads each are not ${held()} workers`,
        );
        const most = held();
        await page.evaluate('window.__release().then(() => { window.__released = true; }), 0');
        await page.waitFor('window.__released');
        await until(
          () => held() <= most - 6,
          () => `${held()} workers are left of ${most}`,
        );
      });
    });
  });
}
