// The lines of docs/*.md are taken out of the pages and run, as a reader would who copies them.
//
// A block of JavaScript runs in a page with the HTML block before it. The comments behind it say what a reader does
// (`does`: tried until it is true) and what then holds, in this order.
import assert from 'node:assert/strict';
import { readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';
import { bundled, dist, withOthers } from './bundle.js';
import { missing, open } from './drivers.js';
import { serve } from './server.js';

const docs = fileURLToPath(new URL('../../docs/', import.meta.url));
const block = /```(html|js)\n([^]*?)```|<!-- (does|holds): ([^]*?) -->/g;

/** What a page of docs/ has to run. */
function snippetsOf(page) {
  const snippets = [];
  let html = '';
  for (const [, language, content, kind, expression] of readFileSync(join(docs, page), 'utf8').matchAll(block)) {
    if (language === 'html') html = content;
    else if (language === 'js') snippets.push({ html, content, steps: [] });
    else snippets.at(-1).steps.push({ kind, expression });
  }
  return snippets;
}

/** What chat.md loads: none of the published models was made to chat. */
async function chatModel() {
  const { outputFiles } = await build({
    entryPoints: [fileURLToPath(new URL('../web/bitnet.ts', import.meta.url))],
    bundle: true,
    write: false,
    format: 'esm',
  });
  const { bitnet } = await import(`data:text/javascript,${encodeURIComponent(outputFiles[0].text)}`);
  return Buffer.from(bitnet(400));
}

const pages = readdirSync(docs).filter((page) => page.endsWith('.md') && page !== 'README.md');

test('every page is in the list of docs/README.md', () => {
  const listed = [...readFileSync(join(docs, 'README.md'), 'utf8').matchAll(/\]\((\w[\w-]*\.md)\)/g)];
  assert.deepEqual(listed.map(([, page]) => page).sort(), pages.sort());
});

for (const page of pages) {
  describe(page, () => {
    const snippets = snippetsOf(page);
    test('has something to copy', () => assert.ok(snippets.length > 0));
    for (const [at, { html, content, steps }] of snippets.entries()) {
      test(`snippet ${at + 1} does what the page says`, { skip: missing('chromium') }, async () => {
        assert.ok(steps.at(-1)?.kind === 'holds', 'nothing is said to hold');
        const body = `<!doctype html><html lang="en"><head><title>Docs</title></head><body>${html}<script type="module" src="/docs.js"></script></body></html>`;
        const page = { '/docs.html': body, '/docs.js': await bundled(content) };
        const server = await serve(dist, { ...page, ...(await withOthers()), '/models/chat.gguf': await chatModel() });
        const tab = await open.chromium();
        try {
          await tab.goto(`${server.origin}/docs.html`);
          for (const { expression } of steps) await tab.waitFor(expression, 240_000);
          assert.deepEqual([...(await tab.problems()), ...server.problems], []);
        } finally {
          await tab.close();
          await server.close();
        }
      });
    }
  });
}
