// Which model tells: a published one, one that the page's address names, or a file of the reader's own.
// SPDX-License-Identifier: MIT

import published from 'virtual:published-models';
import { TernError, type LoadOptions, type Source } from 'ternlm';
import { addressOf, type PublishedModel } from './published.js';

export interface Choice {
  /** What links call it. */
  readonly file: string;
  readonly source: Source;
  readonly expected: Pick<LoadOptions, 'integrity' | 'bytes'>;
  /** What its publisher says of it, if this page does. */
  readonly published: PublishedModel | null;
}

/** The published model of this name. */
export function ofName(file: string | undefined): Choice | null {
  const entry = published.find((one) => one.file === file);
  return entry ? ofEntry(entry) : null;
}

export function ofDefault(): Choice | null {
  const entry = published.find((one) => one.default) ?? published[0];
  return entry ? ofEntry(entry) : null;
}

export function ofFile(file: File): Choice {
  return { file: file.name, source: file, expected: { bytes: file.size }, published: null };
}

/** The model that `?model=` of the page's address names, relative to the page; null: it names none. */
export function ofAddress(page: string): Choice | null {
  const { origin, searchParams } = new URL(page);
  const named = searchParams.get('model');
  if (named === null) return null;
  const source = toUrl(named, page);
  if (source?.origin !== origin) {
    throw new TernError(
      'bad-option',
      `the page's address asks for the model ${JSON.stringify(named)}: expected a file at ${origin}, since this page ` +
        'contacts no other place. Download that model and open the file here',
    );
  }
  return { file: source.pathname.split('/').at(-1) ?? '', source, expected: {}, published: null };
}

function toUrl(address: string, page: string): URL | null {
  try {
    return new URL(address, page);
  } catch {
    return null;
  }
}

function ofEntry(entry: PublishedModel): Choice {
  const { file, sha256: integrity, bytes } = entry;
  return {
    file,
    source: new URL(addressOf(entry), document.baseURI),
    expected: { integrity, bytes },
    published: entry,
  };
}

/** Calls `open` for a file that is chosen with the button or dropped anywhere on the page. */
export function connectFiles(opener: HTMLButtonElement, chooser: HTMLInputElement, open: (file: File) => void): void {
  const take = (files: FileList | null | undefined): void => {
    const file = files?.[0];
    if (file) open(file);
  };
  opener.addEventListener('click', () => chooser.click());
  chooser.addEventListener('change', () => {
    take(chooser.files);
    chooser.value = ''; // so that the same file can be chosen again
  });
  const over = (event: DragEvent, dropping: boolean): void => {
    if (event.dataTransfer?.types.includes('Files') !== true) return; // a text, for the prompt
    event.preventDefault();
    document.body.classList.toggle('dropping', dropping);
  };
  document.addEventListener('dragover', (event) => over(event, true));
  document.addEventListener('dragleave', (event) => over(event, event.relatedTarget !== null));
  document.addEventListener('drop', (event) => {
    over(event, false);
    if (event.defaultPrevented) take(event.dataTransfer?.files);
  });
}
