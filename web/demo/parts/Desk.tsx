// What one wants at hand while the text grows: the buttons, and a sentence on what has just happened.
// SPDX-License-Identifier: MIT

import { useLayoutEffect } from 'preact/hooks';
import * as sheet from '../sheet.js';
import { note, phase, settings, type Phase } from '../state.js';
import { act, again, isOver, share, skip, travel } from '../writer.js';
import { keepFocus } from './focus.js';

export function Desk() {
  useLayoutEffect(keepFocus); // what was pressed may be disabled now
  const isIdle = phase.value === 'loading' || phase.value === 'broken';
  const isWriting = phase.value === 'writing';
  const isKept = settings.seed.value.trim() !== '';
  const retell = isKept ? 'Retell' : 'Another';
  const why = isKept ? 'The same beginning and the seed that is kept' : 'The same beginning, another seed';
  const isSkip = isWriting && settings.slowly.value;
  return (
    <div class="actions">
      <button class="button primary" id="main-action" type="button" disabled={isIdle} onClick={act}>
        {mainAction(phase.value, retell)}
      </button>
      <button
        class="button"
        id="again"
        type="button"
        title={isSkip ? 'Show at once what is being written' : why}
        hidden={isOver()}
        disabled={isIdle || phase.value === 'ready'}
        onClick={isSkip ? skip : again}
      >
        {isSkip ? 'Skip' : retell}
      </button>
      <button
        class="button"
        id="share"
        type="button"
        disabled={sheet.take.value === null || !['paused', 'finished'].includes(phase.value)}
        onClick={() => void share()}
      >
        Share
      </button>
      <button
        class="button icon"
        id="undo"
        type="button"
        aria-label="Undo"
        title="Undo"
        disabled={isIdle || !sheet.canUndo.value}
        onClick={() => travel(true)}
      >
        <svg viewBox="0 0 16 16" aria-hidden="true">
          <path d="M6 3 2.5 6.5 6 10M3 6.5h6.5a3.5 3.5 0 0 1 0 7H7" />
        </svg>
      </button>
      <p class="note" id="note" role="status">
        {note.value}
      </p>
    </div>
  );
}

function mainAction(now: Phase, retell: string): string {
  if (now === 'writing') return 'Stop';
  if (now === 'ready' || now === 'loading' || now === 'broken') return 'Write';
  if (isOver()) return retell;
  if (sheet.pen.value < sheet.text.value.length) return 'Go on here';
  return sheet.take.value ? 'Continue' : 'Write';
}
