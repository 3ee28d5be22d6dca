// Gets a model's bytes from wherever the caller has them, with errors that tell a 404 from a web page.
// SPDX-License-Identifier: MIT

import { baseUrl, fileSystem, fileUrl } from '../context.js';
import { TernError, badOption, describe } from '../errors.js';
import { announcedBytes, bodyOf, isGzip, refuseIfRead, request, type Fetch } from '../request.js';
import type { Cache, KeptFile, Phase } from '../store/kept.js';

/**
 * Where a model may come from: a GGUF file, or one that is compressed by gzip. A string is an address, relative to the
 * page; outside of browsers also the path of a file, relative to the current folder. 'hf:user/repository/file.gguf' (or
 * 'hf:user/repository@revision/file.gguf') is a file of Hugging Face's hub, or of the one that `hub` names: the only
 * source for which the package asks another server than it was given.
 */
export type Source =
  | string
  | URL
  | Request
  | Response
  | Blob
  | FileSystemFileHandle
  | ArrayBuffer
  | Uint8Array
  | ReadableStream<Uint8Array>;

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

export interface OpenOptions {
  signal?: AbortSignal | undefined;
  fetch?: Fetch | undefined;
  /** SHA-256 of the model, if known. */
  integrity?: string | undefined;
  cache?: Cache | undefined;
  resume?: boolean | undefined;
  hub?: string | URL | undefined;
  onPhase?: (phase: Phase) => void;
}

export interface Opened {
  /** Whoever reads owns what comes, and may transfer it away. */
  readonly reader: Reader;
  /** Announced size, for a progress bar only: under a content encoding it is another. Null if unknown. */
  readonly bytes: number | null;
  /** What is kept of the file, if it is to be kept or gone on with; else null. */
  readonly kept: KeptFile | null;
}

type Reader = ReadableStreamDefaultReader<Uint8Array<ArrayBuffer>>;

export async function openSource(source: Source, options: OpenOptions = {}): Promise<Opened> {
  const { reader, ...opened } = await openPacked(source, options);
  return { ...opened, reader: unpacked(reader) };
}

async function openPacked(source: Source, options: OpenOptions): Promise<Opened> {
  options.signal?.throwIfAborted();
  if (typeof source === 'string' || source instanceof URL) {
    const url = toHub(source, options.hub) ?? toUrl(source);
    if (url?.protocol === 'file:') return openFile(url);
    return openAddress(url ?? source, options, isHub(source));
  }
  if (source instanceof Request) return openAddress(source, options, false);
  if (source instanceof Response) return openResponse(source);
  if (source instanceof Blob) return opened(source.stream(), source.size);
  if (source instanceof ReadableStream) return opened(source, null);
  if (source instanceof ArrayBuffer) return openBytes(new Uint8Array(source));
  if (source instanceof Uint8Array) return openBytes(source);
  if (isFileHandle(source)) return openPacked(await source.getFile(), options);
  throw badOption(
    'model',
    'a URL, Request, Response, Blob, FileSystemFileHandle, ArrayBuffer, Uint8Array or ReadableStream of bytes',
    source,
  );
}

function isFileHandle(source: unknown): source is FileSystemFileHandle {
  return typeof source === 'object' && source !== null && 'getFile' in source;
}

/** `isToKeep`: also where nothing was said. */
async function openAddress(source: string | URL | Request, options: OpenOptions, isToKeep: boolean): Promise<Opened> {
  const { integrity, signal, fetch } = options;
  const { cache = integrity === undefined && !isToKeep ? 'none' : 'auto', resume = cache !== 'none' } = options;
  if ((cache !== 'none' || resume) && isOfServer(source)) return openKept(source, { ...options, cache, resume });
  options.onPhase?.('download');
  return openResponse(await request(source, { signal, fetch }));
}

function isOfServer(source: string | URL | Request): source is URL | Request {
  if (typeof source === 'string') return false;
  const { protocol } = source instanceof Request ? new URL(source.url) : source;
  return /^https?:$/.test(protocol) && !(source instanceof Request && source.method !== 'GET');
}

async function openKept(
  source: URL | Request,
  { integrity, signal, fetch, onPhase, cache, resume }: OpenOptions & { cache: Cache; resume: boolean },
): Promise<Opened> {
  const { KeptFile } = await keeper();
  const kept = await KeptFile.open(source, {
    signal,
    fetch,
    integrity: integrity?.toLowerCase() ?? null,
    cache,
    resume,
    onPhase: onPhase ?? (() => undefined),
  });
  const bytes = kept.bytes();
  const stream = new ReadableStream<Uint8Array<ArrayBuffer>>(
    {
      async pull(controller) {
        const { value } = await bytes.next();
        if (value) controller.enqueue(value);
        else controller.close();
      },
      cancel: () => kept.cancel(),
    },
    { highWaterMark: 0 },
  );
  return { reader: stream.getReader(), bytes: kept.size, kept };
}

/** Fetched only where something is to be kept or gone on with. */
async function keeper(): Promise<typeof import('../store/kept.js')> {
  try {
    return await import('../store/kept.js');
  } catch (error) {
    throw TernError.from(error, 'bad-assets', `what keeps models could not be loaded (cache: 'none' needs it not): `);
  }
}

/** What is in it, if it is compressed. */
function unpacked(packed: Reader): Reader {
  let reader: Reader | null = null;
  const give = ({ value }: ReadableStreamReadResult<Uint8Array<ArrayBuffer>>, controller: Controller): void => {
    if (value) controller.enqueue(value);
    else controller.close();
  };
  const begin = async (controller: Controller): Promise<void> => {
    const first = await packed.read();
    reader = packed;
    if (!first.value || !isGzip(first.value)) return give(first, controller);
    const all = new ReadableStream<Uint8Array<ArrayBuffer>>({
      start: (to) => to.enqueue(first.value),
      pull: async (to) => give(await readOrFail(packed), to),
      cancel: (why) => packed.cancel(why),
    });
    reader = all.pipeThrough(new DecompressionStream('gzip')).getReader();
    return next(controller);
  };
  const next = async (controller: Controller): Promise<void> => {
    if (!reader) return begin(controller);
    if (reader === packed) return give(await reader.read(), controller);
    try {
      give(await reader.read(), controller);
    } catch (error) {
      throw TernError.from(error, 'bad-file', 'the file is not sound gzip: ');
    }
  };
  const stream = new ReadableStream(
    { pull: next, cancel: (why) => (reader ?? packed).cancel(why) },
    { highWaterMark: 0 },
  );
  return stream.getReader();
}

type Controller = ReadableStreamDefaultController<Uint8Array<ArrayBuffer>>;

async function readOrFail(reader: Reader): Promise<ReadableStreamReadResult<Uint8Array<ArrayBuffer>>> {
  try {
    return await reader.read();
  } catch (error) {
    throw TernError.from(error, 'network', 'the download broke off, try again: ');
  }
}

/** The next bytes, or null at the end. */
export async function readNext({ reader }: Opened): Promise<Uint8Array<ArrayBuffer> | null> {
  return (await readOrFail(reader)).value ?? null;
}

function opened(stream: ReadableStream<Uint8Array>, bytes: number | null): Opened {
  refuseIfRead(stream);
  return { reader: stream.pipeThrough(copies()).getReader(), bytes, kept: null };
}

/** The address of a file that is named as on a hub; null: it is named otherwise. */
function toHub(source: string | URL, hub: string | URL = kHub): URL | null {
  if (!isHub(source)) return null;
  const parts = /^hf:([^/@]+\/[^/@]+)(?:@([^/]+))?\/(.+)$/i.exec(String(source)) ?? [];
  const [, repository, revision = 'main', file] = parts;
  if (file === undefined) throw badOption('model', "'hf:user/repository/file.gguf'", String(source));
  return new URL(`${repository}/resolve/${revision}/${file}`, `${String(hub).replace(/\/*$/, '')}/`);
}

function isHub(source: string | URL): boolean {
  return /^hf:/i.test(String(source));
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
    return { reader: stream.getReader(), bytes: size, kept: null };
  } catch (error) {
    throw new TernError('network', `${url.href} could not be read (${describe(error)})`, { cause: error });
  }
}

function openResponse(response: Response): Opened {
  return { reader: bodyOf(response).getReader(), bytes: announcedBytes(response), kept: null };
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
const kHub = 'https://huggingface.co/';

function openBytes(bytes: Uint8Array): Opened {
  let at = 0;
  const stream = new ReadableStream<Uint8Array<ArrayBuffer>>({
    pull(controller) {
      if (at < bytes.length) controller.enqueue(new Uint8Array(bytes.subarray(at, at + kPieceBytes)));
      at += kPieceBytes;
      if (at >= bytes.length) controller.close();
    },
  });
  return { reader: stream.getReader(), bytes: bytes.length, kept: null };
}
