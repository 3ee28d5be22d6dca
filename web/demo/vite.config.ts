// Builds the demo page into web/dist; it can be served from any folder of any static server.
// SPDX-License-Identifier: MIT

import { fileURLToPath } from 'node:url';
import { defineConfig } from 'vite';
import { app } from './app-plugin.js';
import { contentSecurityPolicy, kPolicy } from './csp-plugin.js';
import { models } from './models-plugin.js';
import { wat } from './wat-plugin.js';

// What threads need, see `threads` in the package; the page works without.
const isolation = {
  'Cross-Origin-Opener-Policy': 'same-origin',
  'Cross-Origin-Embedder-Policy': 'require-corp',
};

const here = (path: string): string => fileURLToPath(new URL(path, import.meta.url));

/** As the replacement of a regular expression, where `$` means something. */
const replacement = (path: string): string => here(path).replaceAll('$', '$$$$');

const folder = process.env['TERNLM_MODELS'] ?? here('../../models');

export default defineConfig({
  root: here('.'),
  base: './',
  // The page is a customer of the package: it sees the public entries and nothing else.
  resolve: {
    alias: [
      { find: /^ternlm$/, replacement: replacement('../src/index.ts') },
      { find: /^ternlm\/conformance$/, replacement: replacement('../src/entries/conformance.ts') },
      { find: /^ternlm\/gguf$/, replacement: replacement('../src/gguf.ts') },
      { find: /^ternlm\/storage$/, replacement: replacement('../src/entries/storage.ts') },
      { find: /^ternlm\/worker(?=\?|$)/, replacement: replacement('../src/host/worker.ts') },
    ],
  },
  plugins: [models(folder), wat(), contentSecurityPolicy(), app(process.env['TERNLM_ADDRESS'])],
  build: { outDir: here('../dist'), emptyOutDir: true, target: 'es2022', assetsInlineLimit: 0 },
  worker: { format: 'es' },
  define: { 'import.meta.env.TERNLM_REPOSITORY': JSON.stringify(process.env['TERNLM_REPOSITORY'] ?? '') },
  server: { headers: isolation },
  preview: { headers: { ...isolation, 'Content-Security-Policy': kPolicy } },
});
