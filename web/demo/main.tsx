// The demo page: puts its parts on the screen, lets the published model write, and listens to keys, links and files.
// SPDX-License-Identifier: MIT

import { effect } from '@preact/signals';
import { render } from 'preact';
import { connectKept } from './kept.js';
import { openPanel } from './panels/index.js';
import { App } from './parts/App.js';
import { watchRequests } from './requests.js';
import * as sheet from './sheet.js';
import { dropped, phase, requests, settings } from './state.js';
import { act, begin, follow, stop } from './writer.js';

/** From now on the built page opens without a network; a frame in a sandbox may keep nothing. */
async function keepOffline(): Promise<void> {
  if (!import.meta.env.PROD) return;
  try {
    await navigator.serviceWorker.register(new URL('service-worker.js', document.baseURI));
  } catch (error) {
    console.info(`The page will need a network: ${String(error)}`);
  }
}

function connectKeys(): void {
  document.addEventListener('keydown', (event) => {
    if (event.key === 'Enter' && (event.ctrlKey || event.metaKey) && phase.value !== 'writing') {
      event.preventDefault();
      if (phase.value !== 'loading' && phase.value !== 'broken') act();
    }
    if (event.key !== 'Escape') return;
    if (phase.value === 'writing') stop();
    else sheet.caret.value = null;
  });
}

/** A file may be dropped anywhere; its panel opens and takes it. */
function connectFiles(): void {
  const over = (event: DragEvent, dropping: boolean): void => {
    if (event.dataTransfer?.types.includes('Files') !== true) return;
    event.preventDefault();
    document.body.classList.toggle('dropping', dropping);
  };
  document.addEventListener('dragover', (event) => over(event, true));
  document.addEventListener('dragleave', (event) => over(event, event.relatedTarget !== null));
  document.addEventListener('drop', (event) => {
    over(event, false);
    const file = event.defaultPrevented ? event.dataTransfer?.files[0] : undefined;
    if (!file) return;
    dropped.value = file;
    openPanel('your-file');
  });
}

/** At reading pace the page follows the pen, as long as the reader has not gone elsewhere. */
function followPen(): void {
  let isFollowing = true;
  for (const name of ['wheel', 'touchmove']) {
    addEventListener(name, () => (isFollowing = false), { passive: true });
  }
  setInterval(() => {
    const [field, desk] = [document.getElementById('text'), document.querySelector('.desk')];
    if (phase.value !== 'writing' || !isFollowing || !settings.slowly.value || !field || !desk) return;
    const hidden = field.getBoundingClientRect().bottom - desk.getBoundingClientRect().top;
    // No further, or what is below the text would come into sight and be pushed out again.
    // To a place, not by so much: the last step may still be under way.
    if (hidden > 0) scrollTo({ top: scrollY + hidden, behavior: 'smooth' });
  }, 500);
  effect(() => {
    if (phase.value === 'writing') isFollowing = true;
    if (phase.value === 'finished' && isFollowing) requestAnimationFrame(revealEnding);
  });
}

/** The end may lie under the bar with the buttons; further down it waits for the reader. */
function revealEnding(): void {
  const ending = document.getElementById('ending');
  const isNear = ending && ending.getBoundingClientRect().top < innerHeight;
  if (isNear || settings.slowly.value) ending?.scrollIntoView({ block: 'nearest' });
}

watchRequests(() => requests.page.value++);
connectKept();
const place = document.getElementById('app');
const count = document.getElementById('requests');
if (!place || !count) throw new Error('index.html has no place for the page');
place.replaceChildren();
render(<App />, place);
effect(() => void (count.textContent = String(requests.page.value + requests.worker.value)));
connectKeys();
connectFiles();
followPen();
addEventListener('hashchange', follow);
void begin().then(keepOffline);
