// One kept file: in pieces, each under a name with its number, its time and its SHA-256, and a note on what they are of.
// SPDX-License-Identifier: MIT

import type { Bytes, Place, PlaceName } from './places.js';

/** Of every piece but the last. */
export const kPieceBytes = 1 << 19;

const kVersion = 1;
const kNote = 'about.json';

/** What a file was when it was asked for. */
export interface About {
  readonly version: typeof kVersion;
  readonly url: string;
  /** SHA-256 of the model in it, where that was known beforehand. */
  readonly integrity: string | null;
  /** What the server calls this state of the file: its ETag or date; null if it does not. */
  readonly state: string | null;
  /** Size of the whole file, once all of it has been there and was a model; until then null. */
  readonly bytes: number | null;
  /** When its download began, in milliseconds since 1970. The pieces have it in their names: those of another file go. */
  readonly stored: number;
}

export class Entry {
  readonly #place: Place;
  readonly #folder: string;
  readonly #pieces: Map<number, string>; // names by number
  #about: About | null;
  #isChanged = false; // by this page; others may delete it meanwhile

  private constructor(place: Place, folder: string, about: About | null, pieces: Map<number, string>) {
    this.#place = place;
    this.#folder = folder;
    this.#about = about;
    this.#pieces = pieces;
  }

  /** What is kept under that key; perhaps nothing yet. */
  static async open(place: Place, key: string): Promise<Entry> {
    const about = toAbout(await place.read(key, kNote));
    const pieces = new Map<number, string>();
    if (about) {
      for (const name of await place.files(key)) {
        if (name.includes(`-${about.stored}-`)) pieces.set(Number.parseInt(name, 10), name);
      }
    }
    return new Entry(place, key, about, pieces);
  }

  /** Null: nothing is kept. */
  get about(): About | null {
    return this.#about;
  }

  get place(): PlaceName {
    return this.#place.name;
  }

  get pieces(): number {
    return this.#pieces.size;
  }

  /** Of what is here, to within a piece where its end is not. */
  get bytes(): number {
    return Math.min(this.#pieces.size * kPieceBytes, this.#about?.bytes ?? Infinity);
  }

  /** All of the file is here, as far as the names tell. */
  get isWhole(): boolean {
    const bytes = this.#about?.bytes ?? null;
    return bytes !== null && this.#pieces.size === Math.ceil(bytes / kPieceBytes);
  }

  /** The bytes of a piece. Null: it is not there, or is not what its name says, and is not there any more. */
  async read(piece: number): Promise<Bytes | null> {
    const name = this.#pieces.get(piece);
    if (name === undefined) return null;
    const bytes = await this.#place.read(this.#folder, name).catch(() => null);
    if (bytes && name === (await this.#nameOf(piece, bytes))) return bytes;
    this.#pieces.delete(piece);
    await this.#place.remove(this.#folder, name).catch(() => undefined);
    return null;
  }

  async write(piece: number, bytes: Bytes): Promise<void> {
    const name = await this.#nameOf(piece, bytes);
    const before = this.#pieces.get(piece);
    if (before !== undefined && before !== name) await this.#place.remove(this.#folder, before);
    await this.#place.write(this.#folder, name, bytes);
    this.#pieces.set(piece, name);
    this.#isChanged = true;
  }

  /** Another file than before begins here. */
  async begin(about: Omit<About, 'version' | 'stored' | 'bytes'>): Promise<void> {
    await this.remove();
    await this.#note({ version: kVersion, ...about, bytes: null, stored: Date.now() });
  }

  /** It is all here, and a model. */
  async complete(bytes: number): Promise<void> {
    const { about } = this;
    if (about && (about.bytes !== bytes || this.#isChanged)) await this.#note({ ...about, bytes });
  }

  async #note(about: About): Promise<void> {
    this.#about = about;
    await this.#place.write(this.#folder, kNote, new TextEncoder().encode(JSON.stringify(this.#about)));
  }

  async #nameOf(piece: number, bytes: Bytes): Promise<string> {
    return `${piece}-${this.#about?.stored}-${await sha256(bytes)}`;
  }

  async remove(): Promise<void> {
    this.#about = null;
    this.#pieces.clear();
    await this.#place.remove(this.#folder);
  }
}

/** Null: that is no note of this version. */
function toAbout(bytes: Bytes | null): About | null {
  try {
    const found: unknown = bytes && JSON.parse(new TextDecoder().decode(bytes));
    return isAbout(found) ? found : null;
  } catch {
    return null;
  }
}

function isAbout(value: unknown): value is About {
  return typeof value === 'object' && value !== null && 'version' in value && value.version === kVersion;
}

/** Of bytes or text, in hexadecimal; empty where pages cannot compute it, which can keep nothing but in memory either. */
export async function sha256(of: Bytes | string): Promise<string> {
  const bytes = typeof of === 'string' ? new TextEncoder().encode(of) : of;
  if (!('subtle' in crypto)) return '';
  const digest = await crypto.subtle.digest('SHA-256', bytes);
  return Array.from(new Uint8Array(digest), (byte) => byte.toString(16).padStart(2, '0')).join('');
}
