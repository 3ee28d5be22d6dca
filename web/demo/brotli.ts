// A worker that answers bytes with how many brotli makes of them. SPDX-License-Identifier: MIT

import brotli from 'brotli-wasm';

const kQuality = 11; // its highest: what a server that compresses once would take

addEventListener('message', ({ data }: MessageEvent<Uint8Array>) => {
  void brotli.then(({ compress }) => postMessage(compress(data, { quality: kQuality }).length));
});
postMessage('ready');
