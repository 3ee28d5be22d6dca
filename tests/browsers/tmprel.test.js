// What happens to a page and its model in the wild: a slow network, a server that does not say how long its files are, a
// reload in the middle of a text, the way back to a page that was left, a worker that somebody terminates.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { extname } from 'node:path';
import { describe, test } from 'node:test';
import { clearInterval, setInterval } from 'node:timers';
import { missing, open } from './drivers.js';
import { PROBE } from './server.js';

const dist = new URL('../../dist/', import.meta.url);
const model = readFileSync(new URL('models/tinystories-3m5.gguf', dist));
const types = { '.js': 'text/javascript', '.wasm': 'application/wasm', '.html': 'text/html' };

const page = `<!doctype html><title>Reliability</title><script src="/probe.js"></script><script type="module">
import { load } from '/dist/index.js';
const options = { seed: 7, maxBytes: 60 };
const write = async (model) => (await model.generate('Once upon a time', options)).text;
Object.assign(window, { load, write, ready: true });
</script>`;

/** The package, the page, and the model in three ways. */
async function serve() {
  const server = createServer((request, response) => {
    const { pathname } = new URL(request.url, 'http://localhost');
    const send = (type, body, status = 200) => response.writeHead(status, { 'Content-Type': type }).end(body);
    if (pathname === '/') return send(types['.html'], page);
    if (pathname === '/other') return send(types['.html'], '<!doctype html><title>Other</title>Elsewhere');
    if (pathname === '/probe.js') return send(types['.js'], PROBE);
    if (pathname === '/favicon.ico') return send('image/x-icon', '', 204);
    if (pathname === '/whole.gguf') return send('application/octet-stream', model);
    if (pathname === '/unsaid.gguf') {
      response.writeHead(200, { 'Content-Type': 'application/octet-stream' }); // chunked: without a Content-Length
      for (let at = 0; at < model.length; at += 100_000) response.write(model.subarray(at, at + 100_000));
      return response.end();
    }
    if (pathname === '/slow.gguf') {
      response.writeHead(200, { 'Content-Length': model.length });
      let at = 0;
      const drip = setInterval(() => {
        response.write(model.subarray(at, (at += 30_000)));
        if (at < model.length) return;
        clearInterval(drip);
        response.end();
      }, 100);
      return response.on('close', () => clearInterval(drip));
    }
    try {
      send(types[extname(pathname)] ?? 'text/plain', readFileSync(new URL(pathname.slice('/dist/'.length), dist)));
    } catch {
      send('text/plain', 'no such file', 404);
    }
  });
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  const close = () =>
    new Promise((resolve) => {
      server.close(resolve);
      server.closeAllConnections();
    });
  return { origin: `http://127.0.0.1:${server.address().port}`, close };
}

/** The value of the promise that the expression gives in the page. */
async function ask(tab, expression) {
  const caught = `(error) => ({ code: error.code, message: error.message })`;
  await tab.evaluate(
    `void (window.answer = null, Promise.resolve(${expression}).catch(${caught}).then((value) => (window.answer = { value })))`,
  );
  return (await tab.waitFor('window.answer', 240_000)).value;
}

async function visit(start, work) {
  const server = await serve();
  const tab = await start();
  const go = async (path) => {
    await tab.goto(server.origin + path);
    if (path === '/') await tab.waitFor('window.ready');
  };
  try {
    await go('/');
    await work(tab, go);
  } finally {
    await tab.close();
    await server.close();
  }
}

const story = 'load("/whole.gguf").then((model) => write(model))';

for (const browser of ['firefox']) {
  describe(`reliability in ${browser}`, { skip: missing(browser) }, () => {
    const start = open[browser];

    test('over a slow network, and from a server that does not say how long the file is, a model loads as it is', async () => {
      await visit(start, async (tab) => {
        const expected = await ask(tab, story);
        assert.ok(expected.length > 20, JSON.stringify(expected));
        const seen = '(({ loaded, total }) => (window.seen ??= []).push([loaded, total]))';
        for (const path of ['/slow.gguf', '/unsaid.gguf']) {
          const text = await ask(tab, `load("${path}", { onProgress: ${seen} }).then((model) => write(model))`);
          assert.equal(text, expected);
          const progress = await tab.evaluate('window.seen.splice(0)');
          assert.deepEqual(progress.at(-1), [model.length, model.length]); // the file itself says it
        }
      });
    });

    test('a page that is loaded again in the middle of a text begins anew, and writes the same', async () => {
      await visit(start, async (tab, go) => {
        const expected = await ask(tab, story);
        for (let i = 0; i < 3; i++) {
          await tab.evaluate(`void load('/whole.gguf').then(async (model) => {
            for (;;) for await (const { text } of model.stream('Once')) window.some = text;
          })`);
          await tab.waitFor('window.some');
          await go('/');
        }
        assert.equal(await ask(tab, story), expected);
      });
    });

    test('a worker that was terminated is noticed: what waits for it fails, and the next model works', async () => {
      await visit(start, async (tab) => {
        await tab.evaluate(`void (window.workers = [], window.Worker = class extends Worker {
          constructor(...given) {
            super(...given);
            workers.push(this);
          }
        })`);
        const outcome = await ask(
          tab,
          `load('/whole.gguf').then(async (model) => {
            const ends = [
              model.generate('x'.repeat(1e6)),
              model.score('x'.repeat(1e6)),
              model.session().snapshot().then(() => model.session().feed('x'.repeat(1e6))),
            ];
            await new Promise((resolve) => setTimeout(resolve, 200));
            workers.forEach((worker) => worker.terminate());
            const settled = await Promise.allSettled(ends);
            const later = await model.generate('x').catch((error) => error);
            return [...settled.map(({ reason }) => reason?.code), later.code, later.message];
          })`,
        );
        assert.deepEqual(outcome.slice(0, 4), Array(4).fill('engine-failed'), JSON.stringify(outcome));
        assert.match(outcome[4], /no word of it in 35 s/);
        assert.ok((await ask(tab, story)).length > 20);
      });
    });
  });
}

describe.skip('the way back', { skip: missing('chromium') }, () => {
  test('a page with a model that was left while it wrote is kept, and goes on when its reader comes back', async () => {
    // Playwright switches off what keeps pages.
    const start = () => open.chromium({ without: ['--disable-back-forward-cache'] });
    await visit(start, async (tab, go) => {
      await tab.evaluate(`void load('/whole.gguf').then(async (model) => {
        window.bytes = 0;
        addEventListener('pageshow', ({ persisted }) => (window.persisted = persisted));
        for (;;) for await (const { bytes } of model.stream('Once')) window.bytes += bytes.length;
      })`);
      await tab.waitFor('window.bytes > 50');
      await go('/other');
      await tab.page.goBack({ waitUntil: 'commit' }); // a page that was kept is not loaded
      await tab.waitFor("location.pathname === '/' && window.ready && window.persisted !== undefined");
      assert.equal(await tab.evaluate('window.persisted'), true);
      const before = await tab.evaluate('window.bytes');
      await tab.waitFor(`window.bytes > ${before} + 200`);
    });
  });
});
