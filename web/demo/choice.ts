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
