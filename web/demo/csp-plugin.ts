// The Content-Security-Policy of the built page: own files only, no eval, WebAssembly allowed. The page carries it in
// itself, for hosts that cannot send headers; `vite preview` sends it, too.
// SPDX-License-Identifier: MIT

import type { Plugin } from 'vite';

export const kPolicy = [
  "default-src 'none'",
  "script-src 'self' 'wasm-unsafe-eval'",
  "worker-src 'self' blob:", // see confined.ts
  "style-src 'self'",
  "connect-src 'self'",
  "img-src 'self'",
  "manifest-src 'self'",
  "base-uri 'none'",
  "form-action 'none'",
].join('; ');

/** Only the built page: Vite's development server injects styles and its own client. */
export function contentSecurityPolicy(): Plugin {
  return {
    name: 'ternlm-csp',
    apply: 'build',
    transformIndexHtml: (html) => ({
      // Opened from a file the page has no script; with the attribute it would have no style either.
      html: html.replace('<link rel="stylesheet" crossorigin', '<link rel="stylesheet"'),
      tags: [
        { tag: 'meta', attrs: { 'http-equiv': 'Content-Security-Policy', content: kPolicy }, injectTo: 'head-prepend' },
      ],
    }),
  };
}
