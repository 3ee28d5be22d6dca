// A worker that may do what the page may: ask the page's own origin and no other; and that is counted when it asks.
// SPDX-License-Identifier: MIT

import engine from 'ternlm/worker?worker&url';
import counter from './worker.ts?worker&url';

/**
 * The address of such a worker's script. A worker from a file obeys the headers of that file alone, which many hosts
 * cannot send; one from a blob inherits the page's policy, in Chromium, Firefox and WebKit.
 */
export function confinedWorker(onRequest: () => void): string {
  const scripts = [counter, engine].map(
    (script) => `import ${JSON.stringify(new URL(script, document.baseURI).href)};`,
  );
  const address = URL.createObjectURL(new Blob(scripts, { type: 'text/javascript' }));
  new BroadcastChannel(address).addEventListener('message', onRequest);
  return address;
}
