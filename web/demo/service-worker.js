// Keeps the page for use without a network. app-plugin.ts writes kVersion and kFiles before this.
// SPDX-License-Identifier: MIT

/* global self, caches, kVersion, kFiles */

const kOurs = `ternlm ${self.registration.scope} `;
const kCache = kOurs + kVersion;

self.addEventListener('install', (event) => event.waitUntil(keep()));
self.addEventListener('activate', (event) => event.waitUntil(forget()));
self.addEventListener('fetch', (event) => {
  const { url, method, mode } = event.request;
  const { scope } = self.registration;
  if (method !== 'GET' || !url.startsWith(scope) || url.startsWith(`${scope}models/`)) return;
  if (mode !== 'navigate') event.respondWith(answer(event));
  else if ([scope, `${scope}index.html`].includes(url.split(/[?#]/)[0])) event.respondWith(visit(event.request));
});

async function keep() {
  await (await caches.open(kCache)).addAll(kFiles);
}

async function forget() {
  const names = (await caches.keys()).filter((name) => name.startsWith(kOurs) && name !== kCache);
  await Promise.all(names.map((name) => caches.delete(name)));
}

/** The newest page; without a network the one that was kept. */
async function visit(request) {
  return fetch(request).catch(async () => (await caches.open(kCache)).match('./'));
}

/**
 * The names of all other files say what is in them, so that a kept one is the right one; large ones are kept when they are
 * used first. Models are kept by the package, in verified pieces.
 */
async function answer(event) {
  const cache = await caches.open(kCache);
  const found = await cache.match(event.request, { ignoreVary: true });
  if (found) return found;
  const response = await fetch(event.request);
  if (response.ok && event.request.url.startsWith(`${self.registration.scope}assets/`)) {
    event.waitUntil(cache.put(event.request, response.clone()).catch(() => undefined)); // it may be broken off
  }
  return response;
}
