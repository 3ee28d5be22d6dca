// The sheet of paper: the text, or why there is none yet.
// SPDX-License-Identifier: MIT

import { megabytes } from '../card.js';
import { download, phase, problem } from '../state.js';
import { restart } from '../writer.js';
import { Editor } from './Editor.js';

export function Paper() {
  const isBroken = phase.value === 'broken';
  return (
    <div class="paper" id="paper" tabIndex={-1}>
      <div class="sheet" hidden={isBroken}>
        <Editor />
        <p class="unseen" id="keys">
          Control Enter writes, Escape stops.
        </p>
        <p class="ending" id="ending" hidden={phase.value !== 'finished'}>
          The end
        </p>
      </div>
      <Loading />
      {isBroken && problem.value && (
        <div class="problem" id="problem">
          <h2 id="problem-title">{problem.value.title}</h2>
          <p id="problem-text">{problem.value.explanation}</p>
          <button class="button primary" id="retry" type="button" onClick={() => void restart()}>
            {problem.value.retry}
          </button>
        </div>
      )}
    </div>
  );
}

function Loading() {
  if (phase.value !== 'loading') return null;
  const { received, total } = download.value;
  return (
    <div class="loading" id="loading">
      <p class="loading-line">
        Fetching the model{' '}
        <span class="figure">
          {megabytes(received)}
          {total !== null && ` of ${megabytes(total)}`}
        </span>
      </p>
      <progress aria-label="Download" max={1} value={total === null ? undefined : received / total} />
    </div>
  );
}
