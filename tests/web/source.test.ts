// Every way a download can go wrong has its own error; what arrives is what was sent.
// SPDX-License-Identifier: MIT

import { createServer, type Server } from 'node:http';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, relative } from 'node:path';
import { pathToFileURL } from 'node:url';
import { gzipSync } from 'node:zlib';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { load } from '../../web/src/index.js';
import { openSource, readNext, type Opened, type Source } from '../../web/src/api/source.js';
import { fetchWasm } from '../../web/src/engine/wasm-file.js';
import { anyModel } from './golden.js';

const kFile = Uint8Array.from({ length: 300_000 }, (_, i) => (i * 7 + (i >> 8)) & 0xff);
kFile.set(new TextEncoder().encode('GGUF'));
const kPage = '\n<!DOCTYPE html><html><body>Not here</body></html>';

let server: Server;
let base = '';

beforeAll(async () => {
  server = createServer((request, response) => {
    switch (request.url) {
      case '/model.gguf':
        response.writeHead(200, { 'Content-Length': kFile.length });
        return response.end(kFile);
      case '/encoded':
        // What a length means under a content encoding: here, nothing.
        response.writeHead(200, { 'Content-Encoding': 'identity', 'Content-Length': kFile.length });
        return response.end(kFile);
      case '/page':
        response.writeHead(200, { 'Content-Type': 'text/html' });
        return response.end(kPage);
      case '/broken':
        response.writeHead(200, { 'Content-Length': kFile.length });
        response.write(kFile.subarray(0, 1000));
        return setImmediate(() => response.destroy());
      case '/slow':
        response.writeHead(200);
        return response.write(kFile.subarray(0, 1000)); // and never anything more
      default:
        response.writeHead(404, 'Not Found');
        return response.end(kPage);
    }
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('the server has no port');
  base = `http://127.0.0.1:${address.port}`;
});

afterAll(() => {
  server.closeAllConnections();
  server.close();
});

async function readAll(opened: Opened): Promise<Uint8Array> {
  const chunks: Uint8Array<ArrayBuffer>[] = [];
  for (let chunk; (chunk = await readNext(opened));) chunks.push(chunk);
  return new Uint8Array(await new Blob(chunks).arrayBuffer());
}

function streamOf(...chunks: Uint8Array[]): ReadableStream<Uint8Array> {
  return new ReadableStream({
    start(controller) {
      for (const chunk of chunks) controller.enqueue(chunk);
      controller.close();
    },
  });
}

describe('a source', () => {
  const sources: [string, () => Source | Promise<Source>, number | null][] = [
    ['a string', () => `${base}/model.gguf`, kFile.length],
    ['a URL', () => new URL(`${base}/model.gguf`), kFile.length],
    ['a Request', () => new Request(`${base}/model.gguf`), kFile.length],
    ['a Response', () => fetch(`${base}/model.gguf`), kFile.length],
    ['a Blob', () => new Blob([kFile]), kFile.length],
    ['an ArrayBuffer', () => kFile.slice().buffer, kFile.length],
    ['a Uint8Array', () => kFile, kFile.length],
    ['a stream', () => streamOf(kFile.subarray(0, 10), kFile.subarray(10)), null],
    ['an answer with a content encoding', () => `${base}/encoded`, null],
  ];

  test.each(sources)('that is %s delivers its bytes and the size it knows', async (_, source, size) => {
    const opened = await openSource(await source());
    expect(opened.bytes).toBe(size);
    expect(Buffer.compare(await readAll(opened), kFile)).toBe(0);
  });

  test('keeps its own memory: what is handed out can be given away', async () => {
    const mine = kFile.slice();
    for (const source of [mine, mine.buffer, streamOf(mine)]) {
      const opened = await openSource(source);
      for (let chunk; (chunk = await readNext(opened));) structuredClone(chunk, { transfer: [chunk.buffer] });
    }
    expect(Buffer.compare(mine, kFile)).toBe(0);
  });

  test('that somebody reads already is refused', async () => {
    const stream = streamOf(kFile);
    stream.getReader();
    const read = new Response(kFile);
    await read.arrayBuffer();
    for (const source of [stream, read]) {
      await expect(openSource(source).then(readAll)).rejects.toMatchObject({ code: 'bad-option' });
    }
  });

  test('of the wrong type is refused', async () => {
    const source: Source = JSON.parse('42');
    await expect(openSource(source)).rejects.toMatchObject({ code: 'bad-option' });
    const stream: ReadableStream<Uint8Array> = new ReadableStream({ start: (to) => to.enqueue(JSON.parse('"text"')) });
    await expect(openSource(stream).then(readAll)).rejects.toMatchObject({ code: 'bad-option' });
  });
});

describe('a download', () => {
  test('that finds a 404 says so, with the address', async () => {
    await expect(openSource(`${base}/missing.gguf`)).rejects.toMatchObject({
      code: 'http',
      message: `${base}/missing.gguf: expected the model file, the server answered 404 Not Found`,
    });
  });

  test('that finds a web page in place of the model says so', async () => {
    await expect(openSource(`${base}/page`).then(readAll)).rejects.toMatchObject({ code: 'not-the-file' });
  });

  test('that breaks off fails', async () => {
    await expect(openSource(`${base}/broken`).then(readAll)).rejects.toMatchObject({ code: 'network' });
  });

  test('from a server that is not there is a network error', async () => {
    const refused = async (): Promise<Response> => Promise.reject(new TypeError('Failed to fetch'));
    await expect(openSource('https://example.invalid/', { fetch: refused })).rejects.toMatchObject({
      code: 'network',
      message: expect.stringContaining('Failed to fetch'),
    });
  });

  test('that was aborted before it began sends nothing', async () => {
    let asked = false;
    const fetch = async (): Promise<Response> => {
      asked = true;
      return new Response('');
    };
    const signal = AbortSignal.abort();
    await expect(openSource(`${base}/slow`, { signal, fetch })).rejects.toMatchObject({ name: 'AbortError' });
    expect(asked).toBe(false);
  });

  test('that is aborted in the middle ends with the reason of the signal', async () => {
    const controller = new AbortController();
    const { reader } = await openSource(`${base}/slow`, { signal: controller.signal });
    expect((await reader.read()).value?.length).toBe(1000);
    const next = reader.read();
    controller.abort();
    await expect(next).rejects.toMatchObject({ name: 'AbortError' });
  });
});

describe('the size of a model', () => {
  const file = anyModel();
  const answer =
    (bytes: Uint8Array, length: number | null, headers = {}) =>
    (): Response =>
      new Response(new Uint8Array(bytes), {
        headers: { ...headers, ...(length && { 'Content-Length': String(length) }) },
      });

  test.each([
    ['of a compressed answer whose encoding cannot be seen', gzipSync(file).length],
    ['too large', 10 * file.length],
    ['that is nothing', null],
  ])('is what its header says, not a Content-Length %s', async (_, length) => {
    const seen: (number | null)[] = [];
    const model = await load(answer(file, length)(), { onProgress: ({ total }) => seen.push(total) });
    expect(model.info.fileBytes).toBe(file.length);
    expect([seen[0], seen.at(-1)]).toEqual([length, file.length]);
    await model.close();
  });

  test('is missed by a download that ends too early, whatever was announced', async () => {
    const half = file.subarray(0, file.length - 9);
    for (const length of [half.length, file.length, null]) {
      await expect(load(answer(half, length)())).rejects.toMatchObject({
        code: 'incomplete',
        message: `expected ${file.length} bytes, as the file begins, received ${half.length}: try again`,
      });
    }
  });
});

describe('outside of browsers', () => {
  let folder: string;
  let path: string;

  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), 'tern lm #1 '));
    path = join(folder, 'ein Modell.gguf');
    writeFileSync(path, kFile);
  });

  afterAll(() => rmSync(folder, { recursive: true }));

  test('paths and file: URLs are read', async () => {
    for (const source of [path, relative('.', path), pathToFileURL(path), pathToFileURL(path).href]) {
      const opened = await openSource(source);
      expect(opened.bytes).toBe(kFile.length);
      expect(Buffer.compare(await readAll(opened), kFile)).toBe(0);
    }
    const { reader } = await openSource(path);
    await reader.cancel();
  });

  test('what is no file says what the matter is, and nothing of a connection', async () => {
    for (const source of [join(folder, 'missing.gguf'), folder]) {
      const error: unknown = await openSource(source)
        .then(readAll)
        .catch((found: unknown) => found);
      expect(error).toMatchObject({ code: 'network', message: expect.stringMatching(/ENOENT|EISDIR/) });
      expect(String(error)).not.toMatch(/connection/);
    }
  });
});

describe("the package's own module", () => {
  test('that is a web page is refused with what to do', async () => {
    await expect(fetchWasm(new URL(`${base}/page`))).rejects.toMatchObject({
      code: 'bad-assets',
      message: expect.stringMatching(/expected a WebAssembly module .* found an HTML page: .* assets\.wasm/),
    });
  });

  test('that is missing is refused', async () => {
    await expect(fetchWasm(new URL(`${base}/tern-simd.wasm`))).rejects.toMatchObject({
      code: 'bad-assets',
      message: expect.stringContaining('404'),
    });
    await expect(fetchWasm(new URL('file:///no/such/file.wasm'))).rejects.toMatchObject({ code: 'bad-assets' });
  });

  test('that is another file is refused', async () => {
    await expect(fetchWasm(new URL(`${base}/model.gguf`))).rejects.toMatchObject({
      code: 'bad-assets',
      message: expect.stringContaining('found something else'),
    });
  });
});
