// A worker that may do what the page may: ask the page's own origin and no other; and that is counted when it asks.
// SPDX-License-Identifier: MIT

import engine from 'ternlm/worker?worker&url';
import { requests } from './state.js';
import counter from './worker.ts?worker&url';

/**
 * The address of a worker's script that runs these. A worker from a file obeys the headers of that file alone, which many
 * hosts cannot send; one from a blob inherits the page's policy, in Chromium, Firefox and WebKit.
 */
export function confined(script: string): string {
  const scripts = [counter, script].map((each) => `import ${JSON.stringify(new URL(each, document.baseURI).href)};`);
  const address = URL.createObjectURL(new Blob(scripts, { type: 'text/javascript' }));
  new BroadcastChannel(address).addEventListener('message', () => requests.worker.value++);
  return address;
}

/** What every load() of the page is given. */
export const assets = { worker: confined(engine) };
