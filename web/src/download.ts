// Gets bytes from wherever the caller has them: streams, progress, and errors that tell a 404 from a web page.
// SPDX-License-Identifier: MIT

import { TernError, abortReason, describe } from './errors.js';

/** Where a model may come from. */
export type Source = string | URL | Request | Response | Blob | ArrayBuffer | Uint8Array | ReadableStream<Uint8Array>;

export type Fetch = (input: string | URL | Request, init?: RequestInit) => Promise<Response>;

export interface OpenOptions {
  signal?: AbortSignal | undefined;
  fetch?: Fetch | undefined;
}

export interface Opened {
  /** Owned by the reader: its chunks may be transferred away. */
  readonly stream: ReadableStream<Uint8Array<ArrayBuffer>>;
  /** Announced size; null when nobody knows it (compressed transfer, a plain stream). */
  readonly bytes: number | null;
}

export async function openSource(source: Source, options: OpenOptions = {}): Promise<Opened> {
  options.signal?.throwIfAborted();
  if (typeof source === 'string' || source instanceof URL || source instanceof Request) {
    return openResponse(await request(source, options));
  }
  if (source instanceof Response) return openResponse(source);
  if (source instanceof Blob) return { stream: source.stream().pipeThrough(copies()), bytes: source.size };
  if (source instanceof ReadableStream) return { stream: source.pipeThrough(copies()), bytes: null };
  if (source instanceof ArrayBuffer) return openBytes(new Uint8Array(source));
  if (source instanceof Uint8Array) return openBytes(source);
  throw new TernError(
    'bad-option',
    'the model must be a URL, Request, Response, Blob, ArrayBuffer, Uint8Array or ReadableStream of bytes',
  );
}

/** The bytes of one of the package's own .wasm files. */
export async function fetchWasm(url: URL): Promise<Uint8Array<ArrayBuffer>> {
  const bytes = url.protocol === 'file:' ? readFile(url) : await fetchBytes(url);
  const [a, b, c, d] = bytes;
  if (a === 0x00 && b === 0x61 && c === 0x73 && d === 0x6d) return bytes;
  const found = bytes.length === 0 ? 'an empty file' : looksLikeHtml(bytes) ? 'an HTML page' : 'something else';
  throw new TernError(
    'bad-assets',
    `expected a WebAssembly module at ${url.href}, found ${found}: serve the package's dist/wasm folder there or pass assets.wasm`,
  );
}

/** True for bytes that begin like a web page; a model begins with "GGUF", a module with a zero byte. */
export function looksLikeHtml(bytes: Uint8Array): boolean {
  const start = new TextDecoder().decode(bytes.subarray(0, 256)).trimStart().toLowerCase();
  return (
    start.startsWith('<!doctype') || start.startsWith('<html') || start.startsWith('<head') || start.startsWith('<!--')
  );
}

async function request(source: string | URL | Request, options: OpenOptions): Promise<Response> {
  const { signal, fetch = globalThis.fetch } = options;
  const name = source instanceof Request ? source.url : String(source);
  try {
    return await fetch(source, signal ? { signal } : {});
  } catch (error) {
    if (signal?.aborted) throw abortReason(signal);
    throw new TernError(
      'network',
      `${name} could not be reached (${describe(error)}): check the connection and try again`,
      {
        cause: error,
      },
    );
  }
}

function openResponse(response: Response): Opened {
  const name = response.url === '' ? 'the model' : response.url;
  if (!response.ok) {
    void response.body?.cancel();
    throw new TernError(
      'http',
      `${name}: expected the model file, the server answered ${response.status} ${response.statusText}`.trimEnd(),
    );
  }
  if (response.body === null) throw new TernError('incomplete', `${name}: the answer has no content`);
  const announced = announcedBytes(response);
  return { stream: response.body.pipeThrough(checked(name, announced)), bytes: announced };
}

/** Content-Length counts what is on the wire: under a content encoding that is not the size of the file. */
function announcedBytes(response: Response): number | null {
  if (response.headers.has('content-encoding')) return null;
  const length = Number(response.headers.get('content-length') ?? Number.NaN);
  return Number.isSafeInteger(length) && length > 0 ? length : null;
}

/** Passes chunks on, refuses a web page at once and a short file at the end. */
function checked(name: string, announced: number | null): TransformStream<Uint8Array, Uint8Array<ArrayBuffer>> {
  let received = 0;
  return new TransformStream({
    transform(chunk, controller) {
      if (received === 0 && looksLikeHtml(chunk)) {
        throw new TernError('not-the-file', `${name}: expected a GGUF model, found an HTML page: check the address`);
      }
      received += chunk.length;
      controller.enqueue(ownBytes(chunk));
    },
    flush() {
      if (announced !== null && received !== announced) {
        throw new TernError('incomplete', `${name}: expected ${announced} bytes, received ${received}: try again`);
      }
    },
  });
}

/** Chunks of a stream the caller made stay the caller's. */
function copies(): TransformStream<Uint8Array, Uint8Array<ArrayBuffer>> {
  return new TransformStream({
    transform(chunk: unknown, controller) {
      if (!(chunk instanceof Uint8Array))
        throw new TernError('bad-option', 'the stream must deliver Uint8Array chunks');
      controller.enqueue(chunk.slice());
    },
  });
}

const kPieceBytes = 1 << 20;

function openBytes(bytes: Uint8Array): Opened {
  let at = 0;
  const stream = new ReadableStream<Uint8Array<ArrayBuffer>>({
    pull(controller) {
      if (at < bytes.length) controller.enqueue(bytes.slice(at, at + kPieceBytes));
      at += kPieceBytes;
      if (at >= bytes.length) controller.close();
    },
  });
  return { stream, bytes: bytes.length };
}

/** The chunk itself where it fills its buffer, else a copy: a transfer takes the whole buffer. */
function ownBytes(chunk: Uint8Array): Uint8Array<ArrayBuffer> {
  const { buffer } = chunk;
  return buffer instanceof ArrayBuffer && buffer.byteLength === chunk.length ? new Uint8Array(buffer) : chunk.slice();
}

async function fetchBytes(url: URL): Promise<Uint8Array<ArrayBuffer>> {
  try {
    const response = await fetch(url);
    if (response.ok) return new Uint8Array(await response.arrayBuffer());
    throw new Error(`the server answered ${response.status}`);
  } catch (error) {
    throw new TernError('bad-assets', `${url.href} could not be fetched (${describe(error)})`, { cause: error });
  }
}

/** Node has no fetch for files. Asked for at run time, so that bundlers see nothing of Node. */
function readFile(url: URL): Uint8Array<ArrayBuffer> {
  if (!('process' in globalThis)) throw new TernError('bad-assets', `${url.href}: a page cannot read files`);
  try {
    return new Uint8Array(globalThis.process.getBuiltinModule('node:fs').readFileSync(url));
  } catch (error) {
    throw new TernError('bad-assets', `${url.href} could not be read (${describe(error)})`, { cause: error });
  }
}
