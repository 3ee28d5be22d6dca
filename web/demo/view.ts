// Everything the page shows: one method per thing that can happen, no decisions.
// SPDX-License-Identifier: MIT

import { megabytes } from './card.js';
import { button, element, text } from './dom.js';
import type { Piece } from './chunks.js';
import { atReadingPace } from './settings.js';
import type { Story } from './story.js';

/** What the three buttons under the story say and whether they can be pressed. */
export type Phase = 'loading' | 'broken' | 'ready' | 'writing' | 'paused' | 'finished';

const kMainAction: Record<Exclude<Phase, 'finished'>, string> = {
  loading: 'Stop',
  broken: 'Stop',
  ready: 'Write',
  writing: 'Stop',
  paused: 'Continue',
};

const begin = text('begin');
const written = text('written');
const caret = text('caret');
const loading = text('loading');
const bar = element('loading-bar', HTMLProgressElement);
const announcement = text('announce');

let waiting: Piece[] = []; // text for the next frame
let unspoken = ''; // text since the last whole sentence

export function showPhase(phase: Phase): void {
  flush(); // what was written before belongs to the phase before
  document.body.dataset['phase'] = phase;
  const held = document.activeElement;
  const idle = phase === 'loading' || phase === 'broken';
  button('main-action').textContent = phase === 'finished' ? button('again').textContent : kMainAction[phase];
  button('main-action').disabled = idle;
  button('again').disabled = idle || phase === 'ready';
  button('again').hidden = phase === 'finished'; // the main button says it then
  button('share').disabled = phase !== 'paused' && phase !== 'finished';
  button('write').disabled = idle;
  loading.hidden = phase !== 'loading';
  text('problem').hidden = phase !== 'broken';
  caret.hidden = idle || phase === 'finished';
  caret.classList.toggle('busy', phase === 'writing');
  text('ending').hidden = phase !== 'finished';
  text('missing').hidden = true;
  if (phase === 'finished') revealEnding();
  // What was pressed may be gone now; a keyboard and a screen reader go on from here.
  if (!held?.matches(':disabled, [hidden], [hidden] *')) return;
  (idle ? text('paper') : button('main-action')).focus({ preventScroll: true });
}

/** The end may lie under the bar with the buttons; further down it waits for the reader. */
function revealEnding(): void {
  const isNear = text('ending').getBoundingClientRect().top < innerHeight;
  if (isNear || atReadingPace()) text('ending').scrollIntoView({ block: 'nearest' });
}

/** What telling the same beginning again comes to. */
export function showAgain(isSeedKept: boolean): void {
  const again = button('again');
  again.textContent = isSeedKept ? 'Retell' : 'Another';
  again.title = isSeedKept ? 'The same beginning and the seed that is kept' : 'The same beginning, another seed';
  if (document.body.dataset['phase'] === 'finished') showPhase('finished');
}

export function showDownload(received: number, total: number | null): void {
  const whole = total === null ? '' : ` of ${megabytes(total)}`;
  text('loading-size').textContent = `${megabytes(received)}${whole}`;
  if (total === null) bar.removeAttribute('value');
  else bar.value = received / total;
}

export function showProblem(title: string, explanation: string, retry: string): void {
  text('problem-title').textContent = title;
  text('problem-text').textContent = explanation;
  button('retry').textContent = retry;
  clearStory('');
  showPhase('broken');
  announce(`${title}. ${explanation}`);
}

export function clearStory(prompt: string): void {
  begin.textContent = prompt;
  written.textContent = '';
  waiting = [];
  unspoken = '';
  showNote('');
}

/** The same text as before, with the chunks in which the model has read it. */
export function showPrompt(pieces: readonly Piece[]): void {
  begin.textContent = '';
  append(begin, pieces);
}

/** Text arrives many times per frame and is shown once per frame; a screen reader gets whole sentences. */
export function addText(more: string, mask: number): void {
  if (waiting.length === 0) requestAnimationFrame(flush);
  const last = waiting.at(-1);
  if (last && mask === 0) last.text += more;
  else waiting.push({ text: more, mask });
  unspoken += more;
  const end = Math.max(
    ...['. ', '! ', '? ', '.\n', '!\n', '?\n', '."', '!"', '?"'].map((mark) => unspoken.lastIndexOf(mark)),
  );
  if (end < 0) return;
  announce(unspoken.slice(0, end + 2).trim());
  unspoken = unspoken.slice(end + 2);
}

export function announce(sentence: string): void {
  const line = document.createElement('span');
  line.textContent = `${sentence} `;
  announcement.append(line);
  while (announcement.childElementCount > 12) announcement.firstElementChild?.remove();
}

export function showMeters(story: Story): void {
  const { speed, firstByteMs } = story;
  if (speed !== null) text('speed').textContent = Math.round(speed).toLocaleString('en');
  if (firstByteMs !== null)
    text('first-byte').textContent = firstByteMs < 10 ? firstByteMs.toFixed(1) : String(Math.round(firstByteMs));
  text('count').textContent = story.length.toLocaleString('en');
  const lengths = story.chunking?.bytesPerChunk ?? [];
  text('chunk-length').textContent = lengths.map((length) => length?.toFixed(1) ?? '–').join(' · ');
  text('seed-shown').textContent = String(story.seed);
  text('seed-shown').title = `Keep the seed ${story.seed}`;
}

/** Chunks are a matter of hierarchical models only. */
export function showChunkMeter(stages: number): void {
  for (const id of ['chunk-meter', 'marks-field']) text(id).hidden = stages === 0;
  document.body.classList.toggle('chunked', stages > 0);
}

export function showMarks(shown: boolean): void {
  document.body.classList.toggle('marked', shown);
}

export function clearMeters(): void {
  for (const id of ['speed', 'first-byte', 'chunk-length']) text(id).textContent = '–';
  text('count').textContent = '0';
}

export function showNote(note: string): void {
  text('note').textContent = note;
}

function flush(): void {
  append(written, waiting);
  waiting = [];
  // At reading pace the page follows the pen; at full speed it stays where the reader reads.
  if (atReadingPace()) caret.scrollIntoView({ block: 'nearest' });
}

function append(to: HTMLElement, pieces: readonly Piece[]): void {
  for (const { text: piece, mask } of pieces) {
    if (mask === 0) {
      (to.lastElementChild ?? to).append(piece);
    } else {
      const chunk = document.createElement('span');
      chunk.className = mask > 1 ? 'chunk outer' : 'chunk';
      chunk.append(piece);
      to.append(chunk);
    }
  }
}
