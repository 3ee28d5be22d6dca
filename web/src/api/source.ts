// Gets a model's bytes from wherever the caller has them, with errors that tell a 404 from a web page.
// SPDX-License-Identifier: MIT

import { baseUrl, fileSystem, fileUrl } from '../context.js';
import { looksLikeHtml } from '../engine/wasm-file.js';
import { TernError, badOption, describe } from '../errors.js';

/**
 * Where a model may come from. A string is an address, relative to the page; outside of browsers also the path of a file,
 * relative to the current folder.
 */
export type Source = string | URL | Request | Response | Blob | ArrayBuffer | Uint8Array | ReadableStream<Uint8Array>;

/** A model that comes with the package, and what its file must be: what `ternlm/models/...` export. */
export interface ModelFile {
  /** Its address, or the file itself. */
  readonly source: URL | Uint8Array;
  readonly bytes: number;
  /** SHA-256 of the file, as for `integrity` of load(). */
  readonly sha256: string;
}

export function isModelFile(value: unknown): value is ModelFile {
  return typeof value === 'object' && value !== null && 'sha256' in value;
}

export type Fetch = (input: string | URL | Request, init?: RequestInit) => Promise<Response>;

export interface OpenOptions {
  signal?: AbortSignal | undefined;
  fetch?: Fetch | undefined;
}

export interface Opened {
  /** Whoever reads owns what comes, and may transfer it away. */
  readonly reader: ReadableStreamDefaultReader<Uint8Array<ArrayBuffer>>;
  /** Announced size, for a progress bar only: under a content encoding it is another. Null if unknown. */
  readonly bytes: number | null;
}

export async function openSource(source: Source, options: OpenOptions = {}): Promise<Opened> {
  options.signal?.throwIfAborted();
  if (typeof source === 'string' || source instanceof URL) {
    const url = toUrl(source);
    if (url?.protocol === 'file:') return openFile(url);
    return openResponse(await request(url ?? source, options));
  }
  if (source instanceof Request) return openResponse(await request(source, options));
  if (source instanceof Response) return openResponse(source);
  if (source instanceof Blob) return opened(source.stream(), source.size, copies());
  if (source instanceof ReadableStream) return opened(source, null, copies());
  if (source instanceof ArrayBuffer) return openBytes(new Uint8Array(source));
  if (source instanceof Uint8Array) return openBytes(source);
  throw badOption(
    'model',
    'a URL, Request, Response, Blob, ArrayBuffer, Uint8Array or ReadableStream of bytes',
    source,
  );
}

/** The next bytes, or null at the end. */
export async function readNext({ reader }: Opened): Promise<Uint8Array<ArrayBuffer> | null> {
  try {
    return (await reader.read()).value ?? null;
  } catch (error) {
    throw TernError.from(error, 'network', 'the download broke off, try again: ');
  }
}

function opened(
  stream: ReadableStream<Uint8Array>,
  bytes: number | null,
  through: TransformStream<Uint8Array, Uint8Array<ArrayBuffer>>,
): Opened {
  if (stream.locked) throw new TernError('bad-option', 'somebody else reads this model already: expected one unread');
  return { reader: stream.pipeThrough(through).getReader(), bytes };
}

/** What a string means; null: fetch() is asked. */
function toUrl(source: string | URL): URL | null {
  const isPath = typeof source === 'string' && (/^[a-z]:[\\/]/i.test(source) || !/^[a-z][a-z0-9+.-]*:/i.test(source));
  const path = isPath ? fileUrl(source) : null;
  if (path) return path;
  try {
    return new URL(source, baseUrl());
  } catch {
    return null;
  }
}

/** A page must be given the file itself. */
async function openFile(url: URL): Promise<Opened> {
  const files = fileSystem();
  if (!files) {
    throw new TernError(
      'bad-option',
      `${url.href}: a page cannot read files by address: pass the File that a reader chose`,
    );
  }
  try {
    const file = await files.promises.open(url);
    const { size } = await file.stat();
    let at = 0;
    const stream = new ReadableStream<Uint8Array<ArrayBuffer>>(
      {
        async pull(controller) {
          const { bytesRead, buffer } = await file.read(new Uint8Array(kPieceBytes), 0, kPieceBytes, at);
          at += bytesRead;
          if (bytesRead > 0) return controller.enqueue(buffer.slice(0, bytesRead));
          await file.close();
          controller.close();
        },
        cancel: () => file.close(),
      },
      { highWaterMark: 0 },
    );
    return { reader: stream.getReader(), bytes: size };
  } catch (error) {
    throw new TernError('network', `${url.href} could not be read (${describe(error)})`, { cause: error });
  }
}

async function request(source: string | URL | Request, options: OpenOptions): Promise<Response> {
  const { signal, fetch = globalThis.fetch } = options;
  const name = source instanceof Request ? source.url : String(source);
  try {
    return await fetch(source, signal ? { signal } : {});
  } catch (error) {
    signal?.throwIfAborted();
    if (source instanceof Request) source.signal.throwIfAborted();
    const why = `${name} could not be reached (${describe(error)}): check the connection and try again`;
    throw new TernError('network', why, { cause: error });
  }
}

function openResponse(response: Response): Opened {
  const name = response.url === '' ? 'the model' : response.url;
  if (!response.ok) {
    void response.body?.cancel().catch(() => undefined);
    throw new TernError(
      'http',
      `${name}: expected the model file, the server answered ${response.status} ${response.statusText}`.trimEnd(),
    );
  }
  if (response.body === null) throw new TernError('incomplete', `${name}: the answer has no content`);
  return opened(response.body, announcedBytes(response), checked(name));
}

/** Content-Length counts what is on the wire; whether that is encoded cannot always be seen. */
function announcedBytes({ headers }: Response): number | null {
  const length = Number(headers.get('content-length') ?? Number.NaN);
  return !headers.has('content-encoding') && Number.isSafeInteger(length) && length > 0 ? length : null;
}

/** Passes chunks on, and refuses a web page at once. */
function checked(name: string): TransformStream<Uint8Array, Uint8Array<ArrayBuffer>> {
  let begun = false;
  return new TransformStream({
    transform(chunk, controller) {
      if (!begun && looksLikeHtml(chunk)) {
        throw new TernError('not-the-file', `${name}: expected a GGUF model, found an HTML page: check the address`);
      }
      begun = true;
      controller.enqueue(ownBytes(chunk));
    },
  });
}

/** Chunks of a stream the caller made stay the caller's. */
function copies(): TransformStream<Uint8Array, Uint8Array<ArrayBuffer>> {
  return new TransformStream({
    transform(chunk: unknown, controller) {
      if (!(chunk instanceof Uint8Array)) throw badOption('each chunk of the stream', 'a Uint8Array', chunk);
      controller.enqueue(chunk.slice());
    },
  });
}

const kPieceBytes = 1 << 20;

function openBytes(bytes: Uint8Array): Opened {
  let at = 0;
  const stream = new ReadableStream<Uint8Array<ArrayBuffer>>({
    pull(controller) {
      if (at < bytes.length) controller.enqueue(new Uint8Array(bytes.subarray(at, at + kPieceBytes)));
      at += kPieceBytes;
      if (at >= bytes.length) controller.close();
    },
  });
  return { reader: stream.getReader(), bytes: bytes.length };
}

/** The chunk itself where it fills its buffer, else a copy: a transfer takes the whole buffer. */
function ownBytes(chunk: Uint8Array): Uint8Array<ArrayBuffer> {
  const { buffer } = chunk;
  return buffer instanceof ArrayBuffer && buffer.byteLength === chunk.length ? new Uint8Array(buffer) : chunk.slice();
}
