// Asks a server for a file, and tells a 404 from a web page from a connection that is not there.
// SPDX-License-Identifier: MIT

import { looksLikeHtml } from './html.js';
import { TernError, describe } from './errors.js';

export type Fetch = (input: string | URL | Request, init?: RequestInit) => Promise<Response>;

export async function request(
  source: string | URL | Request,
  {
    signal,
    fetch = globalThis.fetch,
    ...init
  }: Omit<RequestInit, 'signal'> & { signal?: AbortSignal | undefined; fetch?: Fetch | undefined },
): Promise<Response> {
  const name = source instanceof Request ? source.url : String(source);
  try {
    return await fetch(source, signal ? { ...init, signal } : init);
  } catch (error) {
    signal?.throwIfAborted();
    if (source instanceof Request) source.signal.throwIfAborted();
    const why = `${name} could not be reached (${describe(error)}): check the connection and try again`;
    throw new TernError('network', why, { cause: error });
  }
}

/**
 * What the server sends, in pieces that whoever reads may transfer away. A refusal is an error with the response as its
 * cause; so is a web page, where the file begins.
 */
export function bodyOf(response: Response, isBeginning = true): ReadableStream<Uint8Array<ArrayBuffer>> {
  const name = response.url === '' ? 'the model' : response.url;
  if (!response.ok) {
    hangUp(response);
    const status = `${response.status} ${response.statusText}`.trimEnd();
    throw new TernError('http', `${name}: expected the model file, the server answered ${status}`, { cause: response });
  }
  if (response.body === null) throw new TernError('incomplete', `${name}: the answer has no content`);
  refuseIfRead(response.body);
  return response.body.pipeThrough(checked(name, isBeginning));
}

export function refuseIfRead({ locked }: ReadableStream): void {
  if (locked) throw new TernError('bad-option', 'somebody else reads this model already: expected one unread');
}

/** The rest is not wanted. */
export function hangUp({ body }: Response): void {
  void body?.cancel().catch(() => undefined);
}

/** Content-Length counts what is on the wire; whether that is encoded cannot always be seen. */
export function announcedBytes({ headers }: Response): number | null {
  const length = Number(headers.get('content-length') ?? Number.NaN);
  return !headers.has('content-encoding') && Number.isSafeInteger(length) && length > 0 ? length : null;
}

/** Passes chunks on, and refuses a web page at once. */
function checked(name: string, isBeginning: boolean): TransformStream<Uint8Array, Uint8Array<ArrayBuffer>> {
  let begun = !isBeginning;
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

/** The chunk itself where it fills its buffer, else a copy: a transfer takes the whole buffer. */
function ownBytes(chunk: Uint8Array): Uint8Array<ArrayBuffer> {
  const { buffer } = chunk;
  return buffer instanceof ArrayBuffer && buffer.byteLength === chunk.length ? new Uint8Array(buffer) : chunk.slice();
}

export function isGzip([first, second]: Uint8Array): boolean {
  return first === 0x1f && second === 0x8b;
}
