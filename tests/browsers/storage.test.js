// What load() keeps, in the browsers' own storage: a model comes from there without the server, is downloaded once by two
// tabs, goes on after a reload in the middle, and is loaded all the same where nothing can be kept.
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { describe, test } from 'node:test';
import { missing, open } from './drivers.js';
import { PROBE } from './server.js';

const dist = new URL('../../dist/', import.meta.url);
const model = readFileSync(new URL('models/tinystories-3m5.gguf', dist)); // two pieces
const integrity = createHash('sha256').update(model).digest('hex');
const piece = 1 << 19;

const page = (script) => `<!doctype html><title>Storage</title><script src="/probe.js"></script>
<script type="module">
import { load } from '/dist/index.js';
import { storage } from '/dist/entries/storage.js';
const integrity = '${integrity}';
/** Loads, writes and closes; what became of it. */
async function run(options) {
  try {
    const model = await load('/model.gguf', { integrity, ...options });
    const { text } = await model.generate('Once upon a time', { seed: 7, maxBytes: 40 });
    await model.close();
    return { text, ...model.info.storage, thread: model.info.runtime.thread };
  } catch ({ code, message }) {
    return { code, message };
  }
}
Object.assign(window, { load, storage, run });
${script}
window.ready = true;
</script>`;

const types = { '.js': 'text/javascript', '.wasm': 'application/wasm', '.map': 'application/json' };

/** The package, the model with ranges, and pages. `state.hold`: bytes of the model after which nothing more is sent. */
async function serve() {
  const state = { asked: [], gone: false, hold: Infinity };
  const server = createServer((request, response) => {
    const { pathname } = new URL(request.url, 'http://localhost');
    const send = (type, body, status = 200, headers = {}) => {
      response.writeHead(status, { 'Content-Type': type, 'Access-Control-Allow-Origin': '*', ...headers });
      response.end(body);
    };
    if (pathname === '/model.gguf') {
      const { range } = request.headers;
      state.asked.push(range ?? 'all');
      if (state.gone) return response.destroy();
      const from = Number(/^bytes=(\d+)-/.exec(range ?? '')?.[1] ?? 0);
      const headers = { ETag: '"1"', 'Content-Length': model.length - from };
      if (from > 0) headers['Content-Range'] = `bytes ${from}-${model.length - 1}/${model.length}`;
      const bytes = model.subarray(from);
      if (bytes.length <= state.hold) return send('application/octet-stream', bytes, from > 0 ? 206 : 200, headers);
      response.writeHead(200, headers);
      return response.write(bytes.subarray(0, state.hold));
    }
    if (pathname === '/probe.js') return send(types['.js'], PROBE);
    if (pathname === '/favicon.ico') return send('image/x-icon', '', 204);
    if (pathname === '/') return send('text/html', page(''));
    if (pathname === '/frames')
      return send('text/html', '<!doctype html><iframe src="/"></iframe><iframe src="/"></iframe>');
    if (pathname === '/sandboxed') {
      const inside = page('run({}).then((result) => parent.postMessage(result, "*"));').replaceAll('"', '&quot;');
      const outside = 'addEventListener("message", ({ data }) => (window.told = data));';
      const frame = `<iframe sandbox="allow-scripts" srcdoc="${inside.replaceAll("'/dist", `'http://${request.headers.host}/dist`).replaceAll("'/model", `'http://${request.headers.host}/model`)}"></iframe>`;
      return send('text/html', `<!doctype html><script>${outside}</script>${frame}`);
    }
    try {
      const body = readFileSync(new URL(pathname.slice('/dist/'.length), dist));
      send(types[/\.\w+$/.exec(pathname)[0]] ?? 'text/plain', body);
    } catch {
      send('text/plain', 'no such file', 404);
    }
  });
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  const origin = `http://127.0.0.1:${server.address().port}`;
  const close = () =>
    new Promise((resolve) => {
      server.close(resolve);
      server.closeAllConnections();
    });
  return { origin, state, close };
}

/** The value of the promise that the expression gives in the page. */
async function ask(page, expression) {
  await page.evaluate(
    `void (window.answer = null, Promise.resolve(${expression}).then((value) => (window.answer = { value })))`,
  );
  return (await page.waitFor('window.answer', 120_000)).value;
}

/** As soon as that is true in the page that comes after this one. */
async function arrived(page, expression) {
  for (;;) {
    try {
      return await page.waitFor(expression, 60_000);
    } catch (error) {
      if (/^still false/.test(error.message)) throw error; // else the page went away meanwhile
    }
  }
}

async function visit(browser, path, work) {
  const server = await serve();
  const page = await open[browser]();
  const go = async (to) => {
    await page.goto(`${server.origin}${to}`);
    if (to === '/') await page.waitFor('window.ready');
  };
  try {
    await go(path);
    await work(page, server.state, go, server.origin);
  } finally {
    await page.close();
    await server.close();
  }
}

const kWhole = { fromCache: model.length, reason: '', resumed: false };

for (const browser of ['chromium', 'firefox', 'webkit']) {
  describe(`storage in ${browser}`, { skip: missing(browser) }, () => {
    // What WebKitWebDriver's sessions have in the Cache API is gone with the page that put it there.
    const forgets = browser === 'webkit' && 'its automated sessions keep nothing over a reload';

    test('a kept model loads after a reload without the server, in each place', async () => {
      await visit(browser, '/', async (page, state, go) => {
        const places = ['auto', 'cache-api', ...(browser === 'chromium' ? ['opfs'] : [])];
        for (const cache of places) {
          state.gone = false;
          const first = await ask(page, `storage.clear().then(() => run({ cache: '${cache}' }))`);
          assert.equal(first.fromCache, 0, JSON.stringify(first));
          assert.ok(
            cache === 'auto' ? ['opfs', 'cache-api'].includes(first.place) : first.place === cache,
            first.place,
          );
          state.gone = true;
          if (!forgets) await go('/');
          const { text, ...second } = await ask(page, `run({ cache: '${cache}' })`);
          assert.deepEqual(second, { ...kWhole, place: first.place, thread: first.thread });
          assert.equal(text, first.text);
          const [stored, ...more] = await ask(page, 'storage.list()');
          assert.deepEqual(more, []);
          assert.equal(stored.bytes, model.length);
          const { models, usage } = await ask(page, 'storage.estimate()');
          assert.equal(models, model.length);
          if (!forgets) assert.ok(usage >= model.length);
        }
        assert.deepEqual(
          state.asked,
          places.map(() => 'all'),
        );
        assert.equal(await ask(page, `storage.delete(${JSON.stringify(integrity)})`), 1);
        assert.equal((await ask(page, 'run({})')).code, 'network');
      });
    });

    test('a reload in the middle of a download goes on after the last whole piece', { skip: forgets }, async () => {
      await visit(browser, '/', async (page, state, go) => {
        state.hold = piece + 1000;
        await page.evaluate('void run({})');
        await page.waitFor('storage.list().then(([one]) => (window.bytes = one?.bytes)), window.bytes');
        state.hold = Infinity;
        await go('/');
        const { text, ...rest } = await ask(page, 'run({})');
        assert.equal(rest.fromCache, piece, JSON.stringify(rest));
        assert.equal(rest.resumed, true);
        assert.ok(text.length > 0);
        assert.deepEqual(state.asked, ['all', `bytes=${piece}-`]);
      });
    });

    test('two tabs that load the same download it once', async () => {
      await visit(browser, '/frames', async (page, state) => {
        await page.waitFor('frames.length === 2 && frames[0].ready && frames[1].ready');
        const [first, second] = await ask(page, 'Promise.all([frames[0].run({}), frames[1].run({})])');
        assert.equal(first.text, second.text);
        assert.deepEqual(state.asked, ['all']);
        assert.equal(first.fromCache + second.fromCache, model.length);
      });
    });

    test('in a sandboxed frame, where nothing can be kept, it loads and says why', async () => {
      await visit(browser, '/sandboxed', async (page) => {
        const told = await page.waitFor('window.told', 120_000);
        assert.equal(told.place, 'none', JSON.stringify(told));
        assert.match(told.reason, /opfs: .*; cache-api: /);
      });
    });

    test('a page that is left and come back to goes on, or loads from what is kept', async () => {
      await visit(browser, '/', async (page, state, go) => {
        await page.evaluate(
          "void load('/model.gguf', { integrity }).then((model) => (window.model = model))".replace(
            'integrity',
            `integrity: '${integrity}'`,
          ),
        );
        await page.waitFor('window.model?.info.storage.place', 120_000);
        state.gone = true;
        await go('/frames');
        await page.evaluate('void setTimeout(() => history.back(), 50)');
        await arrived(page, "location.pathname === '/' && window.ready");
        const again = "(window.model ?? load('/model.gguf', { integrity: '" + integrity + "' }))";
        const text = `Promise.resolve(${again}).then((model) => model.generate('Once', { maxBytes: 9 })).then(({ text }) => text)`;
        assert.equal((await ask(page, text)).length > 0, true);
      });
    });
  });
}

describe('storage that is full', { skip: missing('chromium') }, () => {
  test('keeps what there was room for, and the model is loaded', async () => {
    await visit('chromium', '/', async (page, state, go, origin) => {
      const browser = await page.page.context().newCDPSession(page.page);
      await browser.send('Storage.overrideQuotaForOrigin', { origin, quotaSize: piece + 150_000 });
      for (const cache of ['opfs', 'cache-api']) {
        const told = await ask(page, `storage.clear().then(() => run({ cache: '${cache}' }))`);
        assert.equal(told.reason, 'the browser gives this site no more room', JSON.stringify(told));
        assert.ok(told.text.length > 0);
      }
    });
  });
});
