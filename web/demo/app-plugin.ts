// What the built page has around it: a manifest, to be installed; a list of what to keep, to open without a network; a
// picture for those who show a link to it.
// SPDX-License-Identifier: MIT

import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import type { HtmlTagDescriptor, Plugin } from 'vite';

const kManifest = {
  name: 'TernLM: a storyteller inside your browser',
  short_name: 'TernLM',
  description: 'A small ternary language model writes stories inside this page, in integers.',
  start_url: './',
  display: 'standalone',
  background_color: '#f5f1ea',
  theme_color: '#f5f1ea',
  icons: [{ src: './icon.svg', sizes: 'any', type: 'image/svg+xml' }],
};

/** What few visitors need and is large: kept when it was used. */
const kOnDemand = /threads|brotli_wasm|conformance|\.map$/;

/** `address`: where the page will be, if known, since a picture needs a whole address. */
export function app(address: string | undefined): Plugin {
  const read = (file: string): string => readFileSync(new URL(file, import.meta.url), 'utf8');
  return {
    name: 'ternlm-app',
    apply: 'build',
    transformIndexHtml() {
      const property = (name: string, content: string): HtmlTagDescriptor => ({
        tag: 'meta',
        attrs: { property: name, content },
        injectTo: 'head',
      });
      const card = address
        ? [property('og:url', address), property('og:image', new URL('card.png', address).href)]
        : [];
      return [{ tag: 'link', attrs: { rel: 'manifest', href: './manifest.webmanifest' }, injectTo: 'head' }, ...card];
    },
    generateBundle: {
      order: 'post',
      handler(_, bundle) {
        if (!('index.html' in bundle)) this.error('the page is not in its bundle');
        const hash = createHash('sha256');
        for (const file of Object.values(bundle)) hash.update(file.type === 'chunk' ? file.code : file.source);
        const files = Object.keys(bundle).filter((file) => /^assets\//.test(file) && !kOnDemand.test(file));
        const kept = JSON.stringify(['./', './manifest.webmanifest', './icon.svg', ...files]);
        const version = hash.digest('hex').slice(0, 8);
        const worker = `const kVersion = '${version}';\nconst kFiles = ${kept};\n${read('service-worker.js')}`;
        this.emitFile({ type: 'asset', fileName: 'service-worker.js', source: worker });
        this.emitFile({ type: 'asset', fileName: 'manifest.webmanifest', source: JSON.stringify(kManifest) });
        this.emitFile({ type: 'asset', fileName: 'icon.svg', source: read('favicon.svg') });
        if (!address) return;
        const card = readFileSync(new URL('screenshot.png', import.meta.url));
        this.emitFile({ type: 'asset', fileName: 'card.png', source: card });
      },
    },
  };
}
