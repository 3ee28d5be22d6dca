// What each token of the text costs the model: kept while the text grows, begun anew where it was changed.
// SPDX-License-Identifier: MIT

import { effect, signal } from '@preact/signals';
import type { Model } from 'ternlm';
import { text } from './sheet.js';
import { model } from './state.js';
import { isOfBytes, wellFormed } from './words.js';

/** One token of the text: a byte, or a piece. */
export interface Cost {
  /** Where its characters begin; those that end no character have the place of the one that they are part of. */
  readonly at: number;
  readonly end: number;
  readonly bytes: number;
  readonly bits: number;
  readonly entropy: number;
  readonly rank: number;
}

export const costs = signal<readonly Cost[]>([]);

const kEvery = 100; // milliseconds between two looks at what was scored

/** Scores the text of the page, and whatever it becomes, until the returned function is called. */
export function keepScores(): () => void {
  let stop: (() => void) | null = null;
  const end = effect(() => {
    const { value: current } = model;
    stop?.();
    stop = current ? follow(current) : null;
  });
  return () => {
    end();
    stop?.();
    costs.value = [];
  };
}

function follow(current: Model): () => void {
  const session = current.session();
  let isEnded = false;
  const isOver = (): boolean => isEnded;
  let wake = (): void => undefined;

  const work = async (): Promise<void> => {
    let known: Cost[] = [];
    let scored = ''; // what the session has read
    while (!isOver()) {
      const whole = wellFormed(text.peek());
      if (whole === scored) {
        await new Promise<void>((resolve) => (wake = resolve));
        continue;
      }
      // Pieces may be cut otherwise when more text follows them.
      if (scored !== '' && !(whole.startsWith(scored) && isOfBytes(current))) {
        await session.reset();
        [known, scored] = [[], ''];
      }
      let [begun, shown] = [scored.length, performance.now()];
      for await (const { text: characters, bytes, bits, entropy, rank } of session.scoreStream(
        whole.slice(scored.length),
      )) {
        scored += characters;
        known.push({ at: begun, end: scored.length, bytes: bytes.length, bits, entropy, rank });
        begun = scored.length;
        if (performance.now() - shown < kEvery) continue;
        if (isOver() || !wellFormed(text.peek()).startsWith(whole)) break; // it is another one now
        [costs.value, shown] = [known.slice(), performance.now()];
      }
      if (scored !== whole) {
        await session.reset(); // it may have read further
        [known, scored] = [[], ''];
      }
      costs.value = known.slice();
    }
  };

  const end = effect(() => {
    void text.value;
    wake();
  });
  void work().catch(() => undefined); // the model was closed, or has said elsewhere what went wrong
  return () => {
    isEnded = true;
    wake();
    end();
    void session.close();
  };
}
