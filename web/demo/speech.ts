// What a screen reader says: sentences about the page, and the story sentence by sentence as it is written.
// SPDX-License-Identifier: MIT

import { signal } from '@preact/signals';

const kMost = 12;

export const spoken = signal<readonly { readonly key: number; readonly sentence: string }[]>([]);

const kEnds = ['. ', '! ', '? ', '.\n', '!\n', '?\n', '."', '!"', '?"'];

let count = 0;
let unspoken = ''; // since the last whole sentence

export function announce(sentence: string): void {
  spoken.value = [...spoken.value, { key: ++count, sentence }].slice(-kMost);
}

/** More of the story. */
announce.text = (more: string): void => {
  unspoken += more;
  const end = Math.max(...kEnds.map((mark) => unspoken.lastIndexOf(mark)));
  if (end < 0) return;
  announce(unspoken.slice(0, end + 2).trim());
  unspoken = unspoken.slice(end + 2);
};
