// Downloads a file piece by piece, keeps the pieces, and goes on where it was interrupted: by the network, a reload, damage.
// SPDX-License-Identifier: MIT

import { TernError, describe } from '../errors.js';
import { bodyOf, hangUp, isGzip, request, type Fetch } from '../request.js';
import { Entry, kPieceBytes, sha256 } from './entry.js';
import { lastingPlace, openPlace, type Bytes, type Place, type PlaceName } from './places.js';
import { turn } from './turn.js';

/** 'auto': the first that there is of 'opfs' and 'cache-api'; without one, nothing is kept. */
export type Cache = 'auto' | PlaceName | 'none';

/** Where the bytes come from next: from what is kept, or from the server; or another tab loads the same, which then serves both. */
export type Phase = 'cache' | 'download' | 'waiting';

export interface KeptOptions {
  readonly signal: AbortSignal | undefined;
  readonly fetch: Fetch | undefined;
  /** SHA-256 of the model, in lower case, if known. */
  readonly integrity: string | null;
  readonly cache: Cache;
  /** A download that breaks off goes on by itself, and one that was broken off before is gone on with. */
  readonly resume: boolean;
  readonly onPhase: (phase: Phase) => void;
}

const kMostTries = 5; // without a byte in between
const kFirstPauseMs = 250; // doubled each time: 8 s in all

export class KeptFile {
  readonly #source: URL | Request;
  readonly #options: KeptOptions;
  readonly #end = new AbortController();
  #entry: Entry | null = null;
  #reason = '';
  #release = (): void => undefined;
  #reader: ReadableStreamDefaultReader<Bytes> | null = null;
  #rest: Bytes | null = null; // came with what was read last
  #state: string | null = null; // of the file on the server
  #at = 0;
  #expected: number | null = null;
  #isPacked = false; // what is expected is the size of what is inside
  #fromCache = 0;
  #resumed = false;
  #hasChanged = false;
  #piece: Bytes[] = []; // of the piece that is being downloaded
  #writing: Promise<void> = Promise.resolve();

  private constructor(source: URL | Request, options: KeptOptions) {
    this.#source = source;
    this.#options = options;
  }

  /** Nothing is asked before the first byte is. */
  static async open(source: URL | Request, options: KeptOptions): Promise<KeptFile> {
    const file = new KeptFile(source, options);
    const { cache, signal } = options;
    signal?.addEventListener('abort', () => file.cancel(), { signal: file.#end.signal });
    const place = await placeOf(cache);
    if (typeof place === 'string') file.#reason = place;
    else await file.#openEntry(place);
    return file;
  }

  /** Of the file, if all of it is kept; else null. */
  get size(): number | null {
    return this.#entry?.about?.bytes ?? null;
  }

  get place(): PlaceName | 'none' {
    return this.#entry?.place ?? 'none';
  }

  /** Why nothing, or not all, is kept although it was to be; else empty. */
  get reason(): string {
    return this.#reason;
  }

  /** Bytes of the file that came from what was kept. */
  get fromCache(): number {
    return this.#fromCache;
  }

  /** The server was asked for the rest of the file, not for all of it. */
  get resumed(): boolean {
    return this.#resumed;
  }

  /** The file is so large, as it says itself: a connection that ends earlier has broken off. */
  expect(bytes: number): void {
    if (!this.#isPacked) this.#expected = bytes;
  }

  async *bytes(): AsyncGenerator<Bytes, void, undefined> {
    try {
      await this.#begin();
      while (this.#at !== this.#entry?.about?.bytes) {
        const bytes = (await this.#kept()) ?? (await this.#downloaded());
        if (!bytes) break;
        if (this.#at === bytes.length) this.#isPacked = isGzip(bytes);
        yield bytes;
      }
      await this.#writePiece();
    } finally {
      this.#hangUp();
    }
  }

  /** The file was read to its end and is a model: from now on it is there without the server. */
  async keep(): Promise<void> {
    await this.#writing;
    if (this.#reason === '') await this.#entry?.complete(this.#at).catch((error: unknown) => this.#giveUp(error));
    this.cancel();
  }

  /** After a failure: what is kept and has to do with it goes. True: it may have been what was kept, so try again. */
  async mend(error: unknown): Promise<boolean> {
    const isOld = this.#fromCache > 0 || this.#hasChanged;
    const code = error instanceof TernError ? error.code : '';
    const isWrong = ['integrity', 'bad-file', 'not-the-file'].includes(code) || (code === 'incomplete' && isOld);
    if (!isWrong) return false;
    await this.#writing;
    await this.#entry?.remove().catch(() => undefined);
    return isOld;
  }

  /** Nothing more is wanted. What is kept so far stays. */
  cancel(): void {
    this.#end.abort();
    this.#hangUp();
    void this.#writing.then(this.#release);
  }

  /** Opens what is kept. While it is not all, one of the tabs that load it does so, and the others wait for that. */
  async #openEntry(place: Place): Promise<void> {
    const { integrity } = this.#options;
    const key = integrity ?? (await keyOf(this.url));
    try {
      let entry = await Entry.open(place, key);
      if (!entry.isWhole) {
        const grown = async (): Promise<number> => (await Entry.open(place, key)).pieces;
        this.#release = await turn(`ternlm ${key}`, this.#end.signal, grown, () => this.#options.onPhase('waiting'));
        entry = await Entry.open(place, key);
      }
      this.#entry = entry;
    } catch (error) {
      this.#end.signal.throwIfAborted();
      this.#giveUp(error);
    }
  }

  get url(): string {
    return this.#source instanceof Request ? this.#source.url : this.#source.href;
  }

  /** Whether what is kept is what the server has; else it goes. */
  async #begin(): Promise<void> {
    const about = this.#entry?.about;
    if (!about || !this.#entry) return;
    const { integrity, resume } = this.#options;
    this.#state = about.state;
    if (this.#entry.isWhole && integrity !== null) return;
    let isSame = resume && about.url === this.url;
    if (isSame && integrity === null) isSame = await this.#isUnchanged();
    if (!isSame) await this.#entry.remove();
  }

  async #isUnchanged(): Promise<boolean> {
    try {
      const response = await this.#ask({ Range: 'bytes=0-0' });
      hangUp(response);
      if (!response.ok) bodyOf(response); // throws
      return this.#state !== null && stateOf(response) === this.#state;
    } catch (error) {
      this.#throwIfEnded();
      if (this.#entry?.isWhole && mayPass(error)) return true; // what is kept is for this, too
      throw error;
    }
  }

  /** The next piece, if one begins here and is kept. */
  async #kept(): Promise<Bytes | null> {
    const piece = this.#at / kPieceBytes;
    const bytes = Number.isInteger(piece) ? await this.#entry?.read(piece) : null;
    if (!bytes) return null;
    this.#hangUp();
    this.#options.onPhase('cache');
    this.#at += bytes.length;
    this.#fromCache += bytes.length;
    return bytes;
  }

  /** The next bytes from the server, at most to the end of the piece. Null: there are no more. */
  async #downloaded(): Promise<Bytes | null> {
    const found = this.#rest ?? (await this.#read());
    if (!found) return null;
    const most = kPieceBytes - (this.#at % kPieceBytes);
    this.#rest = found.length > most ? found.slice(most) : null;
    const bytes = found.length > most ? found.slice(0, most) : found;
    this.#at += bytes.length;
    if (this.#entry && this.#reason === '') this.#piece.push(bytes.slice()); // what is given is given away
    if (bytes.length === most) await this.#writePiece();
    return bytes;
  }

  async #read(): Promise<Bytes | null> {
    const { resume } = this.#options;
    for (let tries = 0; ; tries++) {
      const isBegun = this.#reader !== null || tries > 0;
      try {
        this.#reader ??= await this.#connect();
        const value = this.#rest ?? (await this.#reader?.read())?.value;
        if (value) return value;
        if (this.#expected === null || this.#at >= this.#expected || !this.#reader) return null;
        throw new TernError('network', 'the server ended it');
      } catch (error) {
        this.#hangUp();
        this.#throwIfEnded();
        if (!(isBegun && mayPass(error))) throw error;
        const next = resume ? 'load it again, it goes on from there' : 'load it again';
        const why = `the download broke off after ${this.#at} bytes (${describe(error)}): ${next}`;
        if (!resume || tries === kMostTries) throw new TernError('network', why, { cause: error });
        await pause(kFirstPauseMs << tries, this.#end.signal);
        this.#throwIfEnded();
      }
    }
  }

  /** What comes from here on. Null: here is the end. */
  async #connect(): Promise<ReadableStreamDefaultReader<Bytes> | null> {
    this.#options.onPhase('download');
    const at = this.#at;
    const response = await (at === 0 ? this.#ask() : this.#askFor(at));
    const state = stateOf(response);
    if (at > 0 && response.status === 416) {
      hangUp(response);
      return null;
    }
    const reader = bodyOf(response, at === 0).getReader();
    if (at === 0) {
      this.#state = state;
      const { integrity } = this.#options;
      await this.#entry?.begin({ url: this.url, integrity, state }).catch((error: unknown) => this.#giveUp(error));
      return reader;
    }
    const isSame = state === this.#state && state !== null;
    const range = `bytes ${at}-`;
    const isPart = response.status === 206 && (response.headers.get('content-range') ?? range).startsWith(range);
    // Where the checksum of the whole is known, that will say whether it fits.
    if (this.#options.integrity === null && (isPart ? state !== this.#state : !isSame)) {
      void reader.cancel().catch(() => undefined);
      this.#hasChanged = true;
      throw new TernError('incomplete', `${this.url} is not the file any more that it was: load it again`);
    }
    this.#resumed ||= isPart;
    return isPart ? reader : this.#skipping(reader, at);
  }

  /** The server sends all of it, so the beginning is read once more. */
  async #skipping(
    reader: ReadableStreamDefaultReader<Bytes>,
    bytes: number,
  ): Promise<ReadableStreamDefaultReader<Bytes>> {
    for (let left = bytes; left > 0;) {
      const { value } = await reader.read();
      if (!value) throw new TernError('network', 'the server has less of it than before');
      if (value.length > left) this.#rest = value.slice(left);
      left -= value.length;
    }
    return reader;
  }

  async #askFor(at: number): Promise<Response> {
    const { origin } = globalThis; // there is none where no origin is another's
    const isOwn = typeof origin !== 'string' || new URL(this.url).origin === origin;
    const state = isOwn && this.#state !== null && !this.#state.startsWith('W/') ? this.#state : null;
    try {
      return await this.#ask({ Range: `bytes=${at}-`, ...(state !== null && { 'If-Range': state }) });
    } catch (error) {
      this.#throwIfEnded();
      if (isOwn) throw error;
      return this.#ask(); // another origin may allow nothing but the plain request
    }
  }

  async #ask(more: Record<string, string> = {}): Promise<Response> {
    const headers = new Headers(this.#source instanceof Request ? this.#source.headers : {});
    for (const [name, value] of Object.entries(more)) headers.set(name, value);
    // Kept here, it need not be in the browser's cache as well.
    const once: RequestInit = this.#entry ? { cache: 'no-store' } : {};
    return request(this.#source, { ...once, signal: this.#end.signal, fetch: this.#options.fetch, headers });
  }

  /** Written while the next piece arrives. */
  async #writePiece(): Promise<void> {
    await this.#writing;
    const parts = this.#piece.splice(0);
    const entry = this.#entry;
    if (!entry || parts.length === 0 || this.#reason !== '') return;
    const piece = Math.ceil(this.#at / kPieceBytes) - 1;
    const bytes = new Uint8Array(await new Blob(parts).arrayBuffer());
    if (bytes.length !== this.#at - piece * kPieceBytes) return; // not from its beginning on
    this.#writing = entry.write(piece, bytes).catch((error: unknown) => this.#giveUp(error));
  }

  /** The model is loaded all the same. */
  #giveUp(error: unknown): void {
    const isFull = error instanceof DOMException && error.name === 'QuotaExceededError';
    this.#reason = isFull
      ? 'the browser gives this site no more room'
      : `the browser keeps nothing (${describe(error)})`;
    this.#piece = [];
  }

  #throwIfEnded(): void {
    this.#end.signal.throwIfAborted();
    if (this.#source instanceof Request) this.#source.signal.throwIfAborted();
  }

  #hangUp(): void {
    void this.#reader?.cancel().catch(() => undefined);
    this.#reader = null;
    this.#rest = null;
  }
}

/** That place, or why there is none. */
async function placeOf(cache: Cache): Promise<Place | string> {
  if (cache === 'none') return '';
  if (cache === 'auto') return lastingPlace();
  try {
    return await openPlace(cache);
  } catch (error) {
    throw new TernError(
      'unsupported',
      `cache: '${cache}' is not there (${describe(error)}): expected 'auto' or 'memory'`,
      {
        cause: error,
      },
    );
  }
}

async function keyOf(url: string): Promise<string> {
  return `url-${(await sha256(url)) || encodeURIComponent(url)}`;
}

/** What the server calls this state of the file. */
function stateOf({ headers }: Response): string | null {
  return headers.get('etag') ?? headers.get('last-modified');
}

/** Whether to ask again may help. */
function mayPass(error: unknown): boolean {
  if (!(error instanceof TernError)) return true; // of the stream
  const { cause, code } = error;
  return (
    code === 'network' || (cause instanceof Response && (cause.status >= 500 || [408, 429].includes(cause.status)))
  );
}

/** Shorter if the signal is aborted. */
function pause(milliseconds: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const end = (): void => {
      clearTimeout(timer);
      signal.removeEventListener('abort', end);
      resolve();
    };
    const timer = setTimeout(end, milliseconds);
    signal.addEventListener('abort', end);
  });
}
