// The one text of the page: what it says, who wrote which part, and how it was before.
// SPDX-License-Identifier: MIT

import { computed, signal } from '@preact/signals';
import type { Take } from './take.js';

export type Author = 'reader' | 'model';

/** A stretch of the text with one author; `length` in UTF-16 units, as everywhere on the page. */
export interface Run {
  readonly by: Author;
  readonly length: number;
}

/** All that is needed to have the text back, and to go on with it as if nothing had happened. */
export interface Version {
  readonly text: string;
  readonly runs: readonly Run[];
  readonly from: number;
  readonly take: Take | null;
  /** Bytes that the take had shown. */
  readonly shown: number;
}

export const text = signal('');
export const runs = signal<readonly Run[]>([]);
/** Where the model began to write last. */
export const from = signal(0);
/** What it writes or wrote there; null once the text was changed by somebody else. */
export const take = signal<Take | null>(null);
/** Where the reader's cursor is; null: nowhere, or at the end of what the model is writing. */
export const caret = signal<number | null>(null);

const kMostVersions = 60;
/** Milliseconds within which letters typed one after the other are one change. */
const kTyping = 1500;

const past = signal<readonly Version[]>([]);
const future = signal<readonly Version[]>([]);
export const canUndo = computed(() => past.value.length > 0);

/** Another way in which the text once went on. */
export interface Branch {
  readonly version: Version;
  /** Where it parted from what came next. */
  readonly at: number;
}

/** The newest first. */
export const branches = signal<readonly Branch[]>([]);
const kMostBranches = 8;

let typed = { at: -1, when: 0 };

/** Where the model would go on: after the reader's words if the cursor is in them, else where it is. */
export const pen = computed(() => {
  if (caret.value === null) return text.value.length;
  let end = 0;
  for (const { by, length } of runs.value) {
    end += length;
    if (caret.value < end || (caret.value === end && by === 'reader')) return by === 'reader' ? end : caret.value;
  }
  return caret.value;
});

function current(): Version {
  return {
    text: text.value,
    runs: runs.value,
    from: from.value,
    take: take.value,
    shown: take.value?.length ?? 0,
  };
}

/** From now on undo() leads back to the text as it is. */
export function remember(): void {
  past.value = [...past.value, current()].slice(-kMostVersions);
  future.value = [];
  typed = { at: -1, when: 0 };
}

/** False: there is nothing to undo. */
export function undo(): boolean {
  return travel(past, future);
}

export function redo(): boolean {
  return travel(future, past);
}

function travel(back: typeof past, forth: typeof past): boolean {
  const version = back.value.at(-1);
  if (!version) return false;
  forth.value = [...forth.value, current()];
  back.value = back.value.slice(0, -1);
  show(version);
  return true;
}

/** Puts a version of the text in place of the one that is there. */
export function show(version: Version): void {
  text.value = version.text;
  runs.value = version.runs;
  from.value = version.from;
  take.value = version.take?.length === version.shown ? version.take : null;
  caret.value = null;
  typed = { at: -1, when: 0 };
}

/** Puts a branch in the place of the text, which becomes one. */
export function switchTo(branch: Branch): void {
  remember();
  keepBranch(branch.at);
  branches.value = branches.value.filter((one) => one !== branch);
  show(branch.version);
}

/** The text as it is stays beside what will come after `at`. */
function keepBranch(at: number): void {
  if (text.value.slice(at).trim() === '') return;
  branches.value = [{ version: current(), at }, ...branches.value].slice(0, kMostBranches);
}

/** Forgets everything before. */
export function reset(whole: string, by: readonly Run[] = [{ by: 'reader', length: whole.length }]): void {
  text.value = whole;
  runs.value = merged(by);
  from.value = whole.length;
  branches.value = [];
  take.value = null;
  caret.value = null;
}

/** The reader's change: the model's take ends with it, and what it would continue is another text. */
export function edit(start: number, end: number, words: string): void {
  const isTyping = start === typed.at && performance.now() - typed.when < kTyping && end - start <= 1;
  if (!isTyping) remember();
  replace(start, end, words, 'reader');
  typed = { at: start + words.length, when: performance.now() };
  take.value = null;
  caret.value = start + words.length;
  from.value = pen.value;
}

/** What the model wrote. */
export function append(words: string): void {
  replace(text.value.length, text.value.length, words, 'model');
}

/** The text up to there, and other words. */
export function branch(at: number, words: string): void {
  remember();
  cut(at);
  replace(at, at, words, 'reader');
}

/** Cuts the text there; the model goes on from its end, and what came after is a branch. */
export function cut(at: number): void {
  keepBranch(at);
  replace(at, text.value.length, '', 'model');
  from.value = at;
  take.value = null;
  caret.value = null;
}

export function replace(start: number, end: number, words: string, by: Author): void {
  const before = text.value;
  runs.value = merged([...part(0, start), { by, length: words.length }, ...part(end, before.length)]);
  text.value = before.slice(0, start) + words + before.slice(end);
}

/** The runs between two places of the text. */
function part(start: number, end: number): Run[] {
  const found: Run[] = [];
  let at = 0;
  for (const { by, length } of runs.value) {
    found.push({ by, length: Math.min(end, at + length) - Math.max(start, at) });
    at += length;
  }
  return found;
}

function merged(all: readonly Run[]): readonly Run[] {
  const found: Run[] = [];
  for (const run of all) {
    const last = found.at(-1);
    if (run.length <= 0) continue;
    if (last?.by === run.by) found.splice(-1, 1, { by: run.by, length: last.length + run.length });
    else found.push(run);
  }
  return found;
}
