// What the demo page promises: it asks its own origin only, and so does its worker, and counts what they ask; and it opens
// without a network.
import assert from 'node:assert/strict';
import { readFileSync, readdirSync, statSync } from 'node:fs';
import { describe, test } from 'node:test';
import { click, here, rest, serveDemo, text, visitDemo, written } from './demo.js';
import { missing, open } from './drivers.js';
import { serve } from './server.js';

const hosts = { 'a server that sends the policy': {}, 'a host that cannot send headers': { policy: null } };

/** Tries to reach `origin` in every way that a script has; what became of each. Runs in pages and in workers. */
const reach = (origin) => `(async () => {
  const socket = (Kind, url) => new Promise((resolve) => {
    const one = new Kind(url);
    one.onopen = () => resolve('reached');
    one.onerror = () => resolve('refused');
  });
  const ask = {
    fetch: async () => fetch('${origin}/fetch').then(() => 'reached'),
    keepalive: async () => fetch('${origin}/keepalive', { keepalive: true, method: 'POST' }).then(() => 'reached'),
    xhr: () => new Promise((resolve) => {
      const one = new XMLHttpRequest();
      one.onload = () => resolve('reached');
      one.onerror = () => resolve('refused');
      one.open('GET', '${origin}/xhr');
      one.send();
    }),
    socket: () => socket(WebSocket, '${origin.replace('http', 'ws')}/socket'),
    events: () => socket(EventSource, '${origin}/events'),
    // Not there in a worker; it says true also where the request is refused afterwards.
    beacon: async () => (navigator.sendBeacon?.('${origin}/beacon'), 'refused'),
  };
  const became = {};
  for (const name of Object.keys(ask)) became[name] = await ask[name]().catch(() => 'refused');
  return became;
})()`;

const names = ['fetch', 'keepalive', 'xhr', 'socket', 'events', 'beacon'];
const refused = Object.fromEntries(names.map((name) => [name, 'refused']));

/** The page's own worker, with a script at its end that does this when it is told to over the channel 'reach'. */
function reachingWorker(origin) {
  const folder = here('../../web/dist/assets');
  const scripts = readdirSync(folder).filter((name) => /^worker-.*\.js$/.test(name));
  const size = (name) => statSync(`${folder}/${name}`).size;
  const engine = scripts.sort((a, b) => size(b) - size(a))[0];
  const more = `new BroadcastChannel('reach').onmessage = async ({ target }) => target.postMessage(await ${reach(origin)});`;
  return { [`/assets/${engine}`]: `${readFileSync(`${folder}/${engine}`, 'utf8')}\n${more}` };
}

/** Has that worker try, in a page that has it; what came of it. */
const told = `new Promise((resolve) => {
  const channel = new BroadcastChannel('reach');
  channel.onmessage = ({ data }) => resolve(data);
  channel.postMessage('now');
})`;

// What browsers say of a refused request, each in its words, and what the server hears of it.
const refusal =
  /Content[- ]Security[- ]Policy|violates|refused|blocked|access control checks|another origin|establish a connection/i;

for (const [name, serving] of Object.entries(hosts)) {
  describe(`on ${name}`, () => {
    for (const browser of ['chromium', 'firefox', 'webkit']) {
      const options = { skip: missing(browser) };
      test(`${browser}: page and worker reach no other origin, and what they try is counted`, options, async () => {
        const other = await serve('/nonexistent', {}, { open: true, policy: null });
        const files = reachingWorker(other.origin);
        try {
          await visitDemo(browser, { files, serving, expected: refusal }, async (page) => {
            const counted = (count) => page.waitFor(`${text('requests')} === '${count}'`, 5000);
            await rest(page);
            await counted(0);
            assert.match(await page.evaluate(text('facts')), /Runs ina worker/);
            await page.evaluate(`void ${told}.then((became) => (window.__worker = became))`);
            assert.deepEqual(await page.waitFor('window.__worker'), refused);
            await counted(5); // no beacon there
            await page.evaluate(`void ${reach(other.origin)}.then((became) => (window.__page = became))`);
            assert.deepEqual(await page.waitFor('window.__page'), refused);
            await counted(11);
            await page.evaluate("void fetch('favicon.ico')");
            await counted(12);
          });
          assert.deepEqual(other.asked, []);
        } finally {
          await other.close();
        }
      });
    }
  });
}

for (const browser of ['chromium', 'firefox', 'webkit']) {
  test(`${browser}: what was opened once opens without a server, and writes`, { skip: missing(browser) }, async (t) => {
    const server = await serveDemo();
    const page = await open[browser]();
    try {
      await page.goto(`${server.origin}/`);
      await rest(page);
      if (!(await page.evaluate("'serviceWorker' in navigator")))
        return t.skip(`this ${browser} has no service workers`);
      await page.evaluate('void navigator.serviceWorker.ready.then(() => (window.__kept = true))');
      await page.waitFor('window.__kept');
      assert.deepEqual(server.problems, [], 'all that is kept was there');
      await server.close();
      for (const path of ['/', '/index.html', '/#seed=1']) {
        await page.goto('about:blank');
        await page.goto(`${server.origin}${path}`);
        await rest(page); // the text is as it was left
        await click(page, 'again');
        await rest(page);
        assert.notEqual(await page.evaluate(written), '');
        // In Firefox what a worker from a blob imports does not come from what is kept: it writes on the page's thread.
        if (browser !== 'firefox') assert.match(await page.evaluate(text('facts')), /Runs ina worker/);
      }
      assert.equal(await page.evaluate(text('requests')), '0');
    } finally {
      await page.close();
      await server.close();
    }
  });
}

test('the page can be installed, and says what it is where its link is shown', async () => {
  const server = await serveDemo();
  try {
    const fetched = async (path) => (await fetch(new URL(path, server.origin))).text();
    const html = await fetched('/');
    const manifest = JSON.parse(await fetched(/rel="manifest" href="([^"]+)"/.exec(html)[1]));
    assert.equal(manifest.display, 'standalone');
    assert.equal(new URL(manifest.start_url, `${server.origin}/`).href, `${server.origin}/`);
    assert.match(await fetched(manifest.icons[0].src), /<svg/);
    for (const name of ['title', 'description', 'type'])
      assert.match(html, new RegExp(`property="og:${name}"\\s+content=".`));
    assert.deepEqual(server.problems, []);
  } finally {
    await server.close();
  }
});
