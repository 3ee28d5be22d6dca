// The small entries in browsers: React's hooks under StrictMode, and the custom element by keyboard and for screen readers.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';
import { missing, open } from './drivers.js';
import { serve } from './server.js';

const dist = fileURLToPath(new URL('../../dist', import.meta.url));
const page =
  '<!doctype html><html lang="en"><head><title>Entries</title></head><body><main id="root"></main></body></html>';

/** What every program begins with; checks are sentences that are true when they pass. */
const prelude = `
import { load } from '/index.js';
import { toyModel } from '/entries/testing.js';

const checks = [];
async function check(name, run) {
  try {
    await run();
    checks.push({ name, error: null });
  } catch (error) {
    checks.push({ name, error: String(error?.stack ?? error) });
  }
}
function same(found, expected) {
  if (JSON.stringify(found) !== JSON.stringify(expected)) {
    throw new Error('expected ' + JSON.stringify(expected) + ', found ' + JSON.stringify(found));
  }
}
async function until(what, condition) {
  for (let i = 0; i < 3000; i++) {
    if (condition()) return;
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  throw new Error('never: ' + what);
}
const toy = await toyModel();
const endless = { greedy: true, maxBytes: 1e9 };
const code = (promise) => promise.then(() => 'open', (error) => error.code);
const stateOf = (model) => code(model.generate('x', { maxBytes: 1 }));
`;

async function run(browser, program, options = {}) {
  const { outputFiles } = await build({
    stdin: { contents: prelude + program + '\nwindow.__result = checks;', resolveDir: dist },
    bundle: true,
    write: false,
    format: 'esm',
    target: 'es2022',
    external: ['/index.js', '/entries/testing.js', '/entries/element.js'],
    define: { 'process.env.NODE_ENV': '"development"' }, // only there StrictMode does everything twice
  });
  const body = page.replace('</body>', '<script type="module" src="/program.js"></script></body>');
  const server = await serve(dist, { '/page.html': body, '/program.js': outputFiles[0].text }, options);
  const tab = await open[browser]();
  return {
    tab,
    server,
    async close() {
      await tab.close();
      await server.close();
    },
  };
}

/** Every check of the program is a test; nothing was complained about. */
async function report(t, { tab, server }) {
  const checks = await tab.waitFor('window.__result', 180_000);
  for (const { name, error } of checks) await t.test(name, () => assert.equal(error, null));
  const problems = [...(await tab.problems()), ...server.problems];
  await t.test('nothing was complained about', () => assert.deepEqual(problems, []));
}

const hooks = `
import { createElement as h, Fragment, StrictMode, useEffect } from 'react';
import { createRoot } from 'react-dom/client';
import { useGeneration, useModel } from './entries/react.js';

const models = [];
const signals = [];
const newLoader = (before = async () => {}) => async (options) => {
  signals.push(options.signal);
  await before(options);
  const model = await load(toy, options);
  models.push(model);
  return model;
};
/** Shows what is written, and hands out what the hooks return. */
function Story({ loader, seen }) {
  seen.model = useModel(loader);
  seen.writing = useGeneration(seen.model.model);
  seen.renders = (seen.renders ?? 0) + 1;
  useEffect(() => {
    seen.isMounted = true; // after StrictMode has come, gone and come back
  });
  return h('p', null, seen.writing.text);
}
function mount(...stories) {
  const place = document.getElementById('root').appendChild(document.createElement('section'));
  const root = createRoot(place);
  const show = (...list) => root.render(h(StrictMode, null, h(Fragment, null, list.map((props, key) => h(Story, { ...props, key: props.name ?? key })))));
  show(...stories);
  return {
    show,
    unmount() {
      root.unmount();
      place.remove();
    },
  };
}
const settled = () => new Promise((resolve) => setTimeout(resolve, 50));

await check('a model is loaded once, in spite of StrictMode, and closed when its component has gone', async () => {
  const seen = {};
  const root = mount({ loader: newLoader(), seen });
  same(seen.model?.status ?? 'loading', 'loading');
  await until('ready', () => seen.isMounted && seen.model.status === 'ready');
  same([signals.length, models.length, seen.model.progress], [1, 1, 1]);
  root.unmount();
  await settled();
  same(await stateOf(models[0]), 'closed');
});

await check('what is written is shown, and is what the model writes', async () => {
  const seen = {};
  const root = mount({ loader: newLoader(), seen });
  await until('ready', () => seen.isMounted && seen.model.status === 'ready');
  same(seen.writing.status, 'idle');
  seen.writing.write('Once', { seed: 7, maxBytes: 100 });
  await until('done', () => seen.writing.status === 'done');
  const { text } = await seen.model.model.generate('Once', { seed: 7, maxBytes: 100 });
  same([seen.writing.text, document.querySelector('p').textContent, seen.writing.result.text], [text, text, text]);
  seen.writing.write('Once', endless);
  await until('writing', () => seen.writing.status === 'writing' && seen.writing.text.length > 20);
  seen.writing.write('Once', { seed: 7, maxBytes: 100 });
  await until('the second', () => seen.writing.status === 'done');
  same(seen.writing.text, text);
  seen.writing.write('Once', endless);
  await until('writing', () => seen.writing.status === 'writing' && seen.writing.text.length > 20);
  seen.writing.stop();
  await until('stopped', () => seen.writing.status === 'done');
  same([seen.writing.result.finish, seen.writing.result.text === seen.writing.text], ['stopped', true]);
  seen.writing.write('Once', { temperature: -1 });
  await until('failed', () => seen.writing.status === 'failed');
  same(seen.writing.error.code, 'bad-option');
  root.unmount();
  await settled();
});

await check('a component that goes while its model is loading ends the loading', async () => {
  const seen = {};
  const before = signals.length;
  const root = mount({ loader: newLoader(({ signal }) => new Promise((_, reject) => signal.addEventListener('abort', () => reject(signal.reason)))), seen });
  await until('loading', () => signals.length > before);
  const { renders } = seen;
  root.unmount();
  await settled();
  same([signals.length - before, signals.at(-1).aborted, seen.renders, models.length], [1, true, renders, 2]);
});

await check('a loader that does not look at its signal leaves no open model', async () => {
  let go;
  const waits = new Promise((resolve) => { go = resolve; });
  const root = mount({ loader: async () => { await waits; const model = await load(toy); models.push(model); return model; }, seen: {} });
  await settled();
  root.unmount();
  await settled();
  const before = models.length;
  go();
  await until('loaded', () => models.length > before);
  await settled();
  same(await stateOf(models.at(-1)), 'closed');
});

await check('components with one loader share a model; who goes while writing ends only that', async () => {
  const [loader, one, other] = [newLoader(), { name: 'one' }, { name: 'other' }];
  const before = models.length;
  const root = mount({ loader, seen: one, name: 'one' }, { loader, seen: other, name: 'other' });
  await until('ready', () => one.model?.status === 'ready' && other.model?.status === 'ready');
  same([models.length - before, one.model.model === other.model.model], [1, true]);
  const model = models.at(-1);
  const { stream } = model;
  let generation;
  model.stream = (...call) => (generation = stream.apply(model, call));
  one.writing.write('Once', endless);
  await until('writing', () => one.writing.text.length > 20);
  root.show({ loader, seen: other, name: 'other' });
  same((await generation.result).finish, 'stopped');
  same(await stateOf(model), 'open');
  root.unmount();
  await settled();
  same(await stateOf(model), 'closed');
});

await check('a failure is told, and can be tried again', async () => {
  const seen = {};
  let fails = true;
  const root = mount({ loader: newLoader(async () => { if (fails) throw new Error('not today'); }), seen });
  await until('failed', () => seen.model?.status === 'failed');
  same([seen.model.error.message, seen.model.model], ['not today', null]);
  seen.writing.write('x');
  await until('refused', () => seen.writing.status === 'failed');
  same(seen.writing.error.code, 'bad-state');
  fails = false;
  seen.model.retry();
  await until('ready', () => seen.model.status === 'ready');
  same(seen.model.error, null);
  const first = models.at(-1);
  seen.model.retry();
  await until('another', () => seen.model.status === 'ready' && seen.model.model !== first);
  same([await stateOf(first), await stateOf(seen.model.model)], ['closed', 'open']);
  root.unmount();
  await settled();
});

await check('twenty come and go at any time, and every model is closed', async () => {
  const loader = newLoader();
  for (let i = 0; i < 20; i++) {
    const seen = {};
    const root = mount({ loader, seen });
    if (i % 3 === 1) await until('ready', () => seen.isMounted && seen.model.status === 'ready');
    if (i % 3 === 2) {
      await until('ready', () => seen.isMounted && seen.model.status === 'ready');
      seen.writing.write('Once', endless);
      await until('writing', () => seen.writing.text !== '');
    }
    root.unmount();
    if (i % 2) await settled();
  }
  await settled();
  for (const model of models) same(await stateOf(model), 'closed');
});
`;

describe('ternlm/react', () => {
  for (const browser of ['chromium']) {
    test(browser, { skip: missing(browser) }, async (t) => {
      const opened = await run(browser, hooks);
      try {
        await opened.tab.goto(`${opened.server.origin}/page.html`);
        await report(t, opened);
      } finally {
        await opened.close();
      }
    });
  }
});

const element = `
import { defineStory } from '/entries/element.js';

const root = document.getElementById('root');
const events = [];
for (const name of ['progress', 'text', 'done', 'failed']) root.addEventListener(name, ({ detail }) => events.push([name, detail]));
const loaded = [];
const loads = async (...call) => { const model = await load(...call); loaded.push(model); return model; };
const add = (attributes, parent = root) => {
  const story = document.createElement('tern-story');
  for (const [name, value] of Object.entries(attributes)) story.setAttribute(name, value);
  parent.append(story);
  return story;
};
const part = (story, name) => story.shadowRoot.querySelector('[part=' + name + ']');
const settled = () => new Promise((resolve) => setTimeout(resolve, 50));

await check('it is defined once, by whoever asks first', async () => {
  defineStory(loads, { model: toy });
  defineStory(loads, { model: toy });
  same(typeof customElements.get('tern-story'), 'function');
});

const options = { prompt: 'Once', seed: '7', 'max-bytes': '80' };
await check('its attributes say what it writes, and a reader sees and hears of it', async () => {
  const story = add(options);
  same(part(story, 'prompt').value, 'Once');
  part(story, 'button').click();
  await until('done', () => events.some(([name]) => name === 'done'));
  const { text } = await loaded[0].generate('Once', { seed: 7, maxBytes: 80 });
  same([story.text, part(story, 'story').textContent], [text, 'Once' + text]);
  same(part(story, 'status').textContent, text.length + ' characters written');
  same(events.filter(([name]) => name === 'text').map(([, piece]) => piece).join(''), text);
  same([part(story, 'status').getAttribute('role'), part(story, 'button').textContent], ['status', 'Write']);
  story.remove();
  await settled();
  same(await stateOf(loaded[0]), 'closed');
});

await check('keys write and stop', async () => {
  const story = add({ prompt: 'Once', 'max-bytes': '1000000000', temperature: '0.001' });
  const press = (key, more = {}) => part(story, 'prompt').dispatchEvent(new KeyboardEvent('keydown', { key, bubbles: true, cancelable: true, composed: true, ...more }));
  press('Enter', { ctrlKey: true });
  await until('writing', () => story.text.length > 20);
  same(part(story, 'button').textContent, 'Stop');
  press('Escape');
  await until('stopped', () => part(story, 'status').textContent === 'Stopped');
  same(part(story, 'button').textContent, 'Write');
  story.remove();
  await settled();
});

await check('elements share a model; one that is moved goes on, one that is removed ends', async () => {
  const before = loaded.length;
  const [one, other] = [add({ ...options, autostart: '' }), add({ prompt: 'Twice', 'max-bytes': '1000000000', temperature: '0.001', autostart: '' })];
  await until('both', () => one.text !== '' && other.text.length > 20);
  same(loaded.length - before, 1);
  root.append(document.createElement('hr'), other);
  const { length } = other.text;
  await until('more', () => other.text.length > length);
  other.remove();
  await settled();
  const end = other.text;
  await settled();
  same(other.text, end);
  same(await stateOf(loaded.at(-1)), 'open');
  one.remove();
  await settled();
  same(await stateOf(loaded.at(-1)), 'closed');
});

await check('a failure is said and told, and it can be tried again', async () => {
  const story = add({ prompt: 'a', seed: 'seven' });
  same(await story.write(), null);
  same(events.at(-1)[0], 'failed');
  same(events.at(-1)[1].code, 'bad-option');
  same(part(story, 'status').textContent.startsWith('It failed: seed must be'), true);
  story.setAttribute('seed', '18446744073709551615');
  story.setAttribute('max-bytes', '10');
  same((await story.write()).bytes.length, 10);
  const other = add({ model: 'nothing.html' });
  same(await other.write(), null);
  same(['http', 'not-the-file'].includes(events.at(-1)[1].code), true);
  for (const each of [story, other]) each.remove();
  await settled();
});

window.__story = add(options);
`;

describe('ternlm/element', () => {
  for (const browser of ['chromium', 'firefox', 'webkit']) {
    test(browser, { skip: missing(browser) }, async (t) => {
      const opened = await run(browser, element);
      const { tab, server } = opened;
      try {
        await tab.goto(`${server.origin}/page.html`);
        const checks = await tab.waitFor('window.__result', 180_000);
        for (const { name, error } of checks) await t.test(name, () => assert.equal(error, null));
        if (browser === 'chromium') {
          await t.test('axe finds nothing to complain about', async () => {
            await tab.page.evaluate(readFileSync(fileURLToPath(import.meta.resolve('axe-core')), 'utf8'));
            const { violations } = await tab.page.evaluate('axe.run(window.__story)');
            assert.deepEqual(
              violations.map(({ id, nodes }) => [id, nodes.map(({ html }) => html)]),
              [],
            );
          });
        }
        // One check asks for what is not there.
        const problems = [...(await tab.problems()), ...server.problems].filter(
          (each) => !/nothing\.html|404/.test(each),
        );
        await t.test('nothing was complained about', () => assert.deepEqual(problems, []));
      } finally {
        await opened.close();
      }
    });
  }
});
