// The packed package in clean projects of every toolchain, unconfigured, in browsers: the same story, a silent console.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { missing, open } from '../browsers/drivers.js';
import { POLICY, PROBE, serve } from '../browsers/server.js';
import { newProject } from './project.js';
import { build, large, runLarge, serveDev, serveNext } from './tools.js';

const options = { seed: 7, maxBytes: 80 };

/** What loads the model that comes with the package and gives what became of it; `entry`, `model`: what is imported. */
const program = ({ entry, model }) => `
import { load } from '${entry}';
import stories from '${model}';
async function run() {
  const model = await load(stories);
  const { text } = await model.generate('Once upon a time', ${JSON.stringify(options)});
  const { runtime, integrity } = model.info;
  await model.close();
  return { text, thread: runtime.thread, reason: runtime.threadReason, integrity };
}
const result = () => run().catch(({ code, message }) => ({ code, message }));
`;

const inPage = (imports) => `${program(imports)}
result().then((result) => { window.__result = result; });`;

const page = (script) =>
  `<!doctype html><html lang="en"><head><title>Clean</title></head><body><script type="module" src="${script}"></script></body></html>`;

const byName = { entry: 'ternlm', model: 'ternlm/models/tinystories-3m5' };
const selfContained = { entry: 'ternlm/standalone', model: 'ternlm/models/tinystories-3m5/inline' };

/** The same without a bundler: addresses below `origin`. */
const byAddress = ({ entry, model }, origin = '') => {
  const address = (name) => `${origin}/node_modules/${name}${name === 'ternlm' ? '/index' : ''}.js`;
  return { entry: address(entry), model: address(model) };
};

const withBlobs = POLICY.replace("worker-src 'self'", "worker-src 'self' blob:");
const withTrustedTypes = `${POLICY}; require-trusted-types-for 'script'; trusted-types ternlm`;
const withOrigin = (origin) => withBlobs.replace(/(script|worker|connect)-src/g, `$& ${origin}`);

const everywhere = ['chromium', 'firefox', 'webkit'];

/** `build` gives a folder to serve. Where nothing is said: what is imported by name, Chromium, and the strict policy. */
const toolchains = [
  { name: 'Vite build', build: build.vite, script: '/src/index.js', browsers: everywhere },
  { name: 'webpack', build: build.webpack },
  { name: 'Rspack', build: build.rspack },
  { name: 'esbuild', build: build.esbuild, imports: selfContained, policy: withBlobs, browsers: everywhere },
  { name: 'Rollup', build: build.rollup, imports: selfContained, policy: withBlobs },
  { name: 'no bundler', imports: byAddress(byName), browsers: everywhere },
  { name: 'no bundler, self-contained', imports: byAddress(selfContained), policy: withBlobs },
  { name: 'no bundler, Trusted Types', imports: byAddress(byName), policy: withTrustedTypes },
  {
    name: 'no bundler, self-contained, Trusted Types',
    imports: byAddress(selfContained),
    policy: withTrustedTypes.replace("worker-src 'self'", "worker-src 'self' blob:"),
  },
];

let story;
before(async () => {
  const { folder, remove } = newProject({
    'index.mjs': `${program(byName)} console.log(JSON.stringify(await result()));`,
  });
  try {
    const from = (path) => import(join(folder, 'node_modules/ternlm', path));
    const [{ load }, { default: stories }] = [await from('index.js'), await from('models/tinystories-3m5.js')];
    const model = await load(stories);
    story = (await model.generate('Once upon a time', options)).text;
    await model.close();
  } finally {
    remove();
  }
});

/** What the page at the address said, and what was complained about; `origins`: others that may be asked. */
async function visit(browser, { origin, problems }, origins = [], options = {}) {
  const tab = await open[browser](options);
  try {
    await tab.goto(`${origin}/index.html`);
    const result = await tab.waitFor('window.__result');
    const all = [...(await tab.problems()), ...problems];
    return {
      result,
      problems: all.filter((each) => !origins.some((allowed) => each.includes(`another origin: ${allowed}`))),
    };
  } finally {
    await tab.close();
  }
}

const written = (text = story) => ({ text, thread: 'worker', reason: '', integrity: 'verified' });

for (const {
  name,
  build,
  imports = byName,
  script = build ? '/main.js' : '/src/index.js',
  policy,
  browsers,
} of toolchains) {
  describe(name, () => {
    let project, built;
    before(async () => {
      project = newProject({ 'index.html': page(script), 'src/index.js': inPage(imports) });
      built = build ? await build(project.folder) : project.folder;
    });
    after(() => project?.remove());
    for (const browser of browsers ?? ['chromium']) {
      test(browser, { skip: missing(browser) }, async () => {
        const server = await serve(built, {}, { policy });
        try {
          assert.deepEqual(await visit(browser, server), { result: written(), problems: [] });
        } finally {
          await server.close();
        }
      });
    }
  });
}

describe('the package of a second origin', () => {
  let project;
  before(() => (project = newProject({})));
  after(() => project.remove());
  for (const [name, imports, browsers] of [
    ['as it is', byName, everywhere],
    ['self-contained', selfContained, ['chromium']],
  ]) {
    for (const browser of browsers) {
      test(`${name}, ${browser}`, { skip: missing(browser) }, async () => {
        const other = await serve(project.folder, {}, { open: true });
        const pages = { '/index.html': page('/index.js'), '/index.js': inPage(byAddress(imports, other.origin)) };
        const server = await serve('/nonexistent', pages, { policy: withOrigin(other.origin) });
        try {
          assert.deepEqual(await visit(browser, server, [other.origin]), { result: written(), problems: [] });
          assert.deepEqual(other.problems, []);
        } finally {
          await server.close();
          await other.close();
        }
      });
    }
  }
});

describe('Vite dev server', () => {
  test('chromium', { skip: missing('chromium') }, async () => {
    const probe = '<head><script src="/probe.js"></script>';
    const { folder, remove } = newProject(
      {
        'index.html': page('/index.js').replace('<head>', probe),
        'index.js': inPage(byName),
        'public/probe.js': PROBE,
        'public/favicon.ico': '',
      },
      { links: ['vite'] },
    );
    const server = await serveDev(folder);
    try {
      assert.deepEqual(await visit('chromium', server), { result: written(), problems: [] });
    } finally {
      await server.close();
      remove();
    }
  });
});

describe('a bundler that leaves files behind', () => {
  for (const [what, imports, file] of [
    ['the engine', { ...byName, model: selfContained.model }, 'tern-relaxed.wasm'],
    ['the model', { ...selfContained, model: byName.model }, 'tinystories-3m5.gguf'],
  ]) {
    test(`is told from the error: ${what}, chromium`, { skip: missing('chromium') }, async () => {
      const { folder, remove } = newProject({ 'index.html': page('/main.js'), 'src/index.js': inPage(imports) });
      const server = await serve(await build.esbuild(folder), {}, { policy: withBlobs });
      try {
        const { result } = await visit('chromium', server);
        assert.match(result.message, new RegExp(`${file}.*esbuild and Rollup.*ternlm/(standalone|models/.*inline)`));
      } finally {
        await server.close();
        remove();
      }
    });
  }
});

/** In a worker that several pages share, or that serves them: it answers every message with the result. */
const inWorker = (imports) => `${program(imports)}
self.addEventListener('connect', ({ ports }) => result().then((result) => ports[0].postMessage(result)));
self.addEventListener('message', ({ ports }) => result().then((result) => ports[0].postMessage(result)));`;

const kinds = {
  SharedWorker: `new SharedWorker('/worker.js', { type: 'module' }).port.onmessage = ({ data }) => { window.__result = data; };`,
  'service worker': `
    const registration = await navigator.serviceWorker.register('/worker.js', { type: 'module' });
    const { port1, port2 } = new MessageChannel();
    port1.onmessage = ({ data }) => { window.__result = data; };
    (registration.installing ?? registration.active).postMessage(null, [port2]);`,
};

for (const [kind, start] of Object.entries(kinds)) {
  describe(`in a ${kind}`, () => {
    for (const [name, imports] of [
      ['as it is', byName],
      ['self-contained', selfContained],
    ]) {
      test(`${name}, chromium`, { skip: missing('chromium') }, async () => {
        const { folder, remove } = newProject({
          'index.html': page('/index.js'),
          'index.js': start,
          'worker.js': inWorker(byAddress(imports)),
        });
        const server = await serve(folder, {}, { policy: withBlobs });
        try {
          const { result, problems } = await visit('chromium', server);
          assert.deepEqual(problems, []);
          if (kind === 'service worker' && imports === byName) {
            assert.equal(result.code, 'unsupported');
            assert.match(result.message, /ternlm\/standalone/);
          } else {
            assert.deepEqual([result.text, result.thread, result.integrity], [story, 'main', 'verified']);
          }
        } finally {
          await server.close();
          remove();
        }
      });
    }
  });
}

describe('a page of an extension (Manifest V3)', () => {
  test('chromium', { skip: missing('chromium') }, async () => {
    const manifest = { manifest_version: 3, name: 'Stories', version: '1.0' };
    const policy = { extension_pages: "script-src 'self' 'wasm-unsafe-eval'; object-src 'self'" };
    const { folder, remove } = newProject({
      'manifest.json': JSON.stringify({ ...manifest, content_security_policy: policy }),
      'index.html': page('/index.js').replace('<head>', '<head><script src="/probe.js"></script>'),
      'index.js': inPage(byAddress(byName)),
      'probe.js': PROBE,
    });
    // Chromium makes the name of an unpacked extension from its place.
    const digest = createHash('sha256').update(folder).digest('hex').slice(0, 32);
    const id = Array.from(digest, (digit) => String.fromCharCode(97 + parseInt(digit, 16))).join('');
    try {
      const server = { origin: `chrome-extension://${id}`, problems: [] };
      assert.deepEqual(await visit('chromium', server, [], { extension: folder }), { result: written(), problems: [] });
    } finally {
      remove();
    }
  });
});

const onlyByName = large === '' && 'scripts/test toolchains runs it';

describe('Parcel', { skip: onlyByName }, () => {
  test('chromium', { skip: missing('chromium') }, async () => {
    const { folder, remove } = newProject(
      { 'index.html': page('./src/index.js'), 'src/index.js': inPage(byName) },
      { parent: large },
    );
    const policy = POLICY.replace('script-src', "script-src 'unsafe-inline'"); // Parcel's map of its files is inline
    const server = await serve(await build.parcel(folder), {}, { policy });
    try {
      assert.deepEqual(await visit('chromium', server), { result: written(), problems: [] });
    } finally {
      await server.close();
      remove();
    }
  });
});

describe('Next', { skip: onlyByName }, () => {
  test('chromium', { skip: missing('chromium') }, async () => {
    const { folder, remove } = newProject(
      {
        'app/layout.js': `export default function Layout({ children }) {
          return <html lang="en"><head><script src="/probe.js" /></head><body>{children}</body></html>;
        }`,
        'app/index.html/page.js': `'use client';
          import { useEffect } from 'react';
          ${program(byName)}
          export default function Page() {
            useEffect(() => { result().then((result) => { window.__result = result; }); }, []);
            return <p>Clean</p>;
          }`,
        'public/probe.js': PROBE,
        'public/favicon.ico': '',
      },
      { parent: large },
    );
    const server = await serveNext(folder);
    try {
      assert.deepEqual(await visit('chromium', server), { result: written(), problems: [] });
    } finally {
      await server.close();
      remove();
    }
  });
});

describe('TypeScript', { skip: onlyByName }, () => {
  const usage = `import { load, TernError, type Model } from 'ternlm';
    import stories from 'ternlm/models/tinystories-3m5';
    import { load as alone } from 'ternlm/standalone';
    import { Tokenizer } from 'ternlm/tokenizer';
    const model: Model = await load(stories);
    const { bytes, tokens } = await (await alone('x.gguf')).generate('x');
    const text: Uint8Array = bytes, numbers: Uint32Array = tokens;
    for await (const { text } of model.stream('x', { maxBytes: 9 })) document.body.append(text, new TernError('http', '').code);
    export { Tokenizer, numbers, text };`;
  const settings = {
    target: 'ES2022',
    module: 'ESNext',
    moduleResolution: 'Bundler',
    lib: ['es2022', 'dom'],
    types: [],
  };
  for (const version of ['5.4', '5.5', '5.6', '5.7', '5.8']) {
    test(`${version} compiles a strict program without skipLibCheck`, () => {
      const files = {
        'main.ts': usage,
        'tsconfig.json': JSON.stringify({ compilerOptions: { ...settings, strict: true, noEmit: true } }),
      };
      const { folder, remove } = newProject(files);
      try {
        assert.match(
          runLarge(`typescript-${version}/bin/tsc`, ['--version'], folder),
          new RegExp(`Version ${version}`),
        );
        assert.equal(runLarge(`typescript-${version}/bin/tsc`, ['-p', '.'], folder), '');
      } finally {
        remove();
      }
    });
  }
});

describe('programs other than Node', { skip: onlyByName }, () => {
  // Their packages of npm: the programs are in packages of their own for each machine.
  const programs = { deno: ['@deno', ['run', '-A']], bun: ['@oven', []] };
  for (const [name, [scope, options]] of Object.entries(programs)) {
    test(`${name} writes the story, from both builds, and ends by itself`, () => {
      const files = {
        'main.mjs': `for (const [entry, file] of [['', ''], ['/standalone', '/inline']]) {
          const { load } = await import('ternlm' + entry);
          const { default: stories } = await import('ternlm/models/tinystories-3m5' + file);
          const model = await load(stories);
          console.log((await model.generate('Once upon a time', { seed: 7, maxBytes: 24 })).text);
        }`,
      };
      const { folder, remove } = newProject(files, { parent: large });
      try {
        const said = execFileSync(programOf(name, scope), [...options, 'main.mjs'], { cwd: folder, encoding: 'utf8' });
        const [first, second, ...more] = said.trim().split('\n');
        assert.deepEqual([second, ...more], [first]);
        assert.equal(first, ', there was a colorful f');
      } finally {
        remove();
      }
    });
  }

  function programOf(name, scope) {
    const folder = join(large, 'node_modules', scope);
    const found = [
      ...readdirSync(folder).flatMap((each) => [join(folder, each, name), join(folder, each, 'bin', name)]),
      join(large, 'node_modules', '.bin', name), // where the script of its installation has moved it
    ].find((path) => existsSync(path));
    assert.ok(found, `no ${name} in ${folder}`);
    return found;
  }
});
