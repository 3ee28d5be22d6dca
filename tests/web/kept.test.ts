// A model that is kept comes without the server; a download goes on where it was, whatever came between; what is damaged
// is mended. Here in memory, as pages without storage do it; tests/browsers/storage.test.js has the browsers' own places.
// SPDX-License-Identifier: MIT

import { createHash } from 'node:crypto';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { gzipSync } from 'node:zlib';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test, vi } from 'vitest';
import { openSource, readNext, type OpenOptions } from '../../web/src/api/source.js';
import { TernError, load, type LoadProgress } from '../../web/src/index.js';
import { Entry, kPieceBytes } from '../../web/src/store/entry.js';
import { openPlace, type Place } from '../../web/src/store/places.js';
import { storage } from '../../web/src/entries/storage.js';
import { anyModel } from './golden.js';

const kModel = anyModel();
const sum = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex');

/** Several pieces and a part of one. */
const kFile = Uint8Array.from({ length: 3 * kPieceBytes + 1234 }, (_, i) => (i * 7 + (i >> 8)) & 0xff);

/** What the server has, and how it behaves. */
interface Served {
  file: Uint8Array;
  headers: Record<string, string>;
  ranges: boolean;
  /** Says its size. */
  length: boolean;
  /** Bytes after which the next connections break off, one number each. */
  breaks: number[];
  /** Statuses that the next requests are answered with. */
  refusals: number[];
}

let served: Served;
let asked: { range: string | undefined; ifRange: string | undefined }[];
let server: Server;
let url = '';

function answer(request: IncomingMessage, response: ServerResponse): void {
  const { range, 'if-range': ifRange } = request.headers;
  asked.push({ range, ifRange: ifRange as string | undefined });
  const refusal = served.refusals.shift();
  if (refusal !== undefined) return void response.writeHead(refusal).end();
  const state = served.headers['ETag'] ?? served.headers['Last-Modified'];
  const [, from, to] = /^bytes=(\d+)-(\d*)$/.exec(range ?? '') ?? [];
  const isPart = from !== undefined && served.ranges && (ifRange === undefined || ifRange === state);
  const size = served.file.length;
  const start = isPart ? Number(from) : 0;
  if (start >= size) return void response.writeHead(416, { 'Content-Range': `bytes */${size}` }).end();
  const bytes = served.file.subarray(start, isPart && to ? Number(to) + 1 : size);
  response.writeHead(isPart ? 206 : 200, {
    ...served.headers,
    ...(served.length && { 'Content-Length': bytes.length }),
    ...(isPart && { 'Content-Range': `bytes ${start}-${start + bytes.length - 1}/${size}` }),
  });
  const most = served.breaks.shift();
  if (most === undefined) return void response.end(bytes);
  response.write(bytes.subarray(0, most), () =>
    setImmediate(() => (served.length ? response.destroy() : response.end())),
  );
}

beforeAll(async () => {
  server = createServer(answer);
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('the server has no port');
  url = `http://127.0.0.1:${address.port}/model.gguf`;
});

afterAll(() => {
  server.closeAllConnections();
  server.close();
});

beforeEach(async () => {
  served = { file: kFile, headers: { ETag: '"1"' }, ranges: true, length: true, breaks: [], refusals: [] };
  asked = [];
  await storage.clear();
});

afterEach(() => vi.unstubAllGlobals());

const kKeep: OpenOptions = { cache: 'memory' };
const known = (options: OpenOptions = {}): OpenOptions => ({
  cache: 'memory',
  integrity: sum(served.file),
  ...options,
});

interface Read {
  bytes: Uint8Array;
  fromCache: number;
  resumed: boolean;
  reason: string;
}

/** All of it; then it is kept. `most`: leaves after so many bytes, as a page that is closed. */
async function read(options: OpenOptions, most = Infinity): Promise<Read> {
  const opened = await openSource(url, options);
  const chunks: Uint8Array<ArrayBuffer>[] = [];
  let size = 0;
  for (let chunk; size < most && (chunk = await readNext(opened)); size += chunk.length) chunks.push(chunk);
  if (size < most) await opened.kept?.keep();
  else await opened.reader.cancel();
  const { fromCache = 0, resumed = false, reason = '' } = opened.kept ?? {};
  return { bytes: new Uint8Array(await new Blob(chunks).arrayBuffer()), fromCache, resumed, reason };
}

const same = (a: Uint8Array, b: Uint8Array): boolean => Buffer.compare(a, b) === 0;

async function place(): Promise<Place> {
  return openPlace('memory');
}

describe('a file that is kept', () => {
  test('and whose checksum is known is not asked for again', async () => {
    expect(same((await read(known())).bytes, kFile)).toBe(true);
    expect(asked.length).toBe(1);
    const again = await read(known());
    expect(same(again.bytes, kFile)).toBe(true);
    expect(again.fromCache).toBe(kFile.length);
    expect(asked.length).toBe(1);
    expect(await storage.list()).toMatchObject([{ url, integrity: sum(kFile), bytes: kFile.length, complete: true }]);
  });

  test('without a checksum is asked for by its state only, and read anew when that is another', async () => {
    await read(kKeep);
    expect((await read(kKeep)).fromCache).toBe(kFile.length);
    expect(asked.map(({ range }) => range)).toEqual([undefined, 'bytes=0-0']);
    served.file = kFile.map((byte) => byte ^ 1);
    served.headers = { ETag: '"2"' };
    const other = await read(kKeep);
    expect(same(other.bytes, served.file)).toBe(true);
    expect(other.fromCache).toBe(0);
    served.headers = {}; // nothing to tell one state from another by
    await read(kKeep);
    expect((await read(kKeep)).fromCache).toBe(0);
  });

  test('is there when the server is not', async () => {
    await read(kKeep);
    const fetch = async (): Promise<Response> => Promise.reject(new TypeError('Failed to fetch'));
    expect(same((await read({ ...kKeep, fetch })).bytes, kFile)).toBe(true);
    served.refusals = [503];
    expect((await read(kKeep)).fromCache).toBe(kFile.length);
    served.refusals = [404];
    await expect(read(kKeep)).rejects.toMatchObject({ code: 'http' });
  });

  test.each([
    ['has changed', (bytes: Uint8Array): Uint8Array => bytes.map((byte, i) => (i === 99 ? byte ^ 1 : byte))],
    ['is cut off', (bytes: Uint8Array): Uint8Array => bytes.subarray(0, 1000)],
    ['is empty', (): Uint8Array => new Uint8Array(0)],
  ])('of which a piece %s has that piece downloaded again, and no other', async (_, damage) => {
    await read(known());
    const there = await place();
    const [id = ''] = await there.folders();
    const name = (await there.files(id)).find((each) => each.startsWith('1-')) ?? '';
    const bytes = (await there.read(id, name)) ?? new Uint8Array(0);
    await there.write(id, name, new Uint8Array(damage(bytes)));
    asked = [];
    const mended = await read(known());
    expect(same(mended.bytes, kFile)).toBe(true);
    expect(mended.fromCache).toBe(kFile.length - kPieceBytes);
    expect(asked).toEqual([{ range: `bytes=${kPieceBytes}-`, ifRange: '"1"' }]);
    asked = [];
    expect((await read(known())).fromCache).toBe(kFile.length);
    expect(asked).toEqual([]);
  });

  test('whose note is damaged is read anew', async () => {
    await read(known());
    const there = await place();
    const [id = ''] = await there.folders();
    for (const note of ['{', 'null', '{"version":0}']) {
      await there.write(id, 'about.json', new TextEncoder().encode(note));
      expect(same((await read(known())).bytes, kFile)).toBe(true);
    }
  });

  test('may be deleted while it is read', async () => {
    await read(known());
    const opened = await openSource(url, known());
    const chunks: Uint8Array<ArrayBuffer>[] = [];
    for (let chunk; (chunk = await readNext(opened));) {
      chunks.push(chunk);
      await storage.clear();
    }
    expect(same(new Uint8Array(await new Blob(chunks).arrayBuffer()), kFile)).toBe(true);
  });
});

describe('a download that was broken off', () => {
  test('by a reload goes on after its last whole piece', async () => {
    await read(known(), 2 * kPieceBytes + 10);
    await vi.waitFor(async () =>
      expect(await storage.list()).toMatchObject([{ bytes: 2 * kPieceBytes, complete: false }]),
    );
    asked = [];
    const rest = await read(known());
    expect(same(rest.bytes, kFile)).toBe(true);
    expect(rest).toMatchObject({ resumed: true, fromCache: 2 * kPieceBytes });
    expect(asked).toEqual([{ range: `bytes=${2 * kPieceBytes}-`, ifRange: '"1"' }]);
  });

  test.each([
    ['a server that says its size', true],
    ['one that does not', false],
  ])('by %s goes on by itself', async (_, length) => {
    served.length = length;
    served.breaks = [100_000, 700_000];
    const opened = await openSource(url, known());
    opened.kept?.expect(kFile.length); // as the file itself says
    const chunks: Uint8Array<ArrayBuffer>[] = [];
    for (let chunk; (chunk = await readNext(opened));) chunks.push(chunk);
    expect(same(new Uint8Array(await new Blob(chunks).arrayBuffer()), kFile)).toBe(true);
    expect(asked.length).toBe(3);
    expect(opened.kept?.resumed).toBe(true);
    await opened.kept?.keep();
    expect((await read(known())).fromCache).toBe(kFile.length);
  });

  test('goes on also when nothing is to be kept', async () => {
    served.breaks = [100_000];
    expect(same((await read({ resume: true })).bytes, kFile)).toBe(true);
    expect(await storage.list()).toEqual([]);
    expect(asked.length).toBe(2);
  });

  test('goes on when the server is back', async () => {
    served.breaks = [100_000];
    served.refusals = [];
    const opened = await openSource(url, known());
    await readNext(opened);
    served.refusals = [503, 429];
    const chunks: Uint8Array<ArrayBuffer>[] = [];
    for (let chunk; (chunk = await readNext(opened));) chunks.push(chunk);
    expect(asked.length).toBe(4);
  });

  test('from a server without ranges reads over what is there', async () => {
    served.ranges = false;
    served.breaks = [kPieceBytes + 700];
    const all = await read(known());
    expect(same(all.bytes, kFile)).toBe(true);
    expect(all.resumed).toBe(false);
  });

  test('is not gone on with in another file', async () => {
    await read(kKeep, kPieceBytes + 10);
    served.file = kFile.map((byte) => byte ^ 1);
    served.headers = { ETag: '"2"' };
    expect(same((await read(kKeep)).bytes, served.file)).toBe(true);

    served.breaks = [kPieceBytes + 10];
    const opened = await openSource(url, { resume: true });
    const readOn = async (): Promise<void> => {
      while (await readNext(opened)) served.headers = { ETag: '"3"' };
    };
    await expect(readOn()).rejects.toMatchObject({ code: 'incomplete', message: /is not the file any more/ });
    expect(await opened.kept?.mend(new TernError('incomplete', ''))).toBe(true);
  });

  test('fails in the end, and says where', async () => {
    vi.useFakeTimers({ toFake: ['setTimeout'] });
    try {
      served.breaks = [1000, 0, 0, 0, 0, 0];
      const failed = read(known()).catch((error: unknown) => error);
      const end = setInterval(() => vi.advanceTimersByTime(10_000), 5);
      expect(await failed).toMatchObject({
        code: 'network',
        message: /^the download broke off after 1000 bytes .* goes on/,
      });
      clearInterval(end);
      expect(asked.length).toBe(6);
    } finally {
      vi.useRealTimers();
    }
    served.breaks = [1000];
    await expect(read(known({ resume: false }))).rejects.toMatchObject({ code: 'network' });
  });
});

describe('where nothing can be kept', () => {
  test('the file is read all the same, and the reason is told', async () => {
    const auto = await read(known({ cache: 'auto' })); // Node has no storage
    expect(same(auto.bytes, kFile)).toBe(true);
    expect(auto.reason).toMatch(/opfs: .*cache-api: /);
    await expect(read(known({ cache: 'opfs' }))).rejects.toMatchObject({ code: 'unsupported' });
  });

  test('for want of room, it is not kept, and what was kept before stays', async () => {
    const there = await place();
    const really = Object.getOwnPropertyDescriptor(Entry.prototype, 'write')?.value as Entry['write'];
    const write = vi.spyOn(Entry.prototype, 'write').mockImplementation(async function (this: Entry, piece, bytes) {
      if (piece >= 2) throw new DOMException('too much', 'QuotaExceededError');
      return really.call(this, piece, bytes);
    });
    const full = await read(known());
    write.mockRestore();
    expect(same(full.bytes, kFile)).toBe(true);
    expect(full.reason).toBe('the browser gives this site no more room');
    expect(await storage.list()).toMatchObject([{ complete: false }]);
    expect(await there.folders()).toHaveLength(1);
    const later = await read(known());
    expect(same(later.bytes, kFile)).toBe(true);
    expect(later.fromCache).toBe(2 * kPieceBytes);
  });
});

describe('load', () => {
  test('keeps a model whose checksum is given, tells so, and reports how it comes', async () => {
    served.file = kModel;
    const seen: LoadProgress[] = [];
    const options = {
      integrity: sum(kModel).toUpperCase(),
      cache: 'memory',
      onProgress: (each: LoadProgress) => seen.push(each),
    } as const;
    const first = await load(url, options);
    expect(first.info.storage).toEqual({ place: 'memory', reason: '', fromCache: 0, resumed: false });
    expect(seen.at(-1)).toMatchObject({ phase: 'download', loaded: kModel.length, total: kModel.length, fromCache: 0 });
    await first.close();
    seen.length = 0;
    const second = await load(url, options);
    expect(second.info.storage.fromCache).toBe(kModel.length);
    expect(second.info.integrity).toBe('verified');
    expect(seen.at(-1)).toMatchObject({ phase: 'cache', loaded: kModel.length, secondsLeft: null });
    expect(asked.length).toBe(1);
    await second.close();
  });

  test('keeps nothing of a model without one, unless it is asked to', async () => {
    served.file = kModel;
    const model = await load(url);
    expect(model.info.storage).toEqual({ place: 'none', reason: '', fromCache: 0, resumed: false });
    await model.close();
    expect(await storage.list()).toEqual([]);
  });

  test('reads what is compressed, and keeps it compressed', async () => {
    const packed = gzipSync(kModel);
    served.file = packed;
    const sources = [new Blob([packed]), new Uint8Array(packed), url];
    for (const source of sources) await (await load(source, { integrity: sum(kModel), cache: 'memory' })).close();
    expect(await storage.list()).toMatchObject([{ bytes: packed.length, complete: true }]);
    await expect(load(packed.subarray(0, packed.length - 99))).rejects.toMatchObject({ code: 'bad-file' });
    packed.fill(0x55, 1000, 1100);
    await expect(load(new Uint8Array(packed))).rejects.toMatchObject({ code: 'bad-file' });
  });

  test('takes a file handle', async () => {
    const handle = { kind: 'file', getFile: async () => new File([new Uint8Array(kModel)], 'model.gguf') };
    await using model = await load(handle as unknown as FileSystemFileHandle);
    expect(model.info.fileBytes).toBe(kModel.length);
  });

  test('of a kept file that is another model than its checksum says downloads the right one', async () => {
    served.file = kModel;
    const wrong = new Uint8Array(kModel);
    wrong[wrong.length - 1] = (wrong.at(-1) ?? 0) ^ 1;
    const entry = await Entry.open(await place(), sum(kModel));
    await entry.begin({ url, integrity: sum(kModel), state: '"1"' });
    await entry.write(0, wrong);
    await entry.complete(wrong.length);
    const model = await load(url, { integrity: sum(kModel), cache: 'memory' });
    expect(model.info).toMatchObject({ integrity: 'verified', storage: { fromCache: 0 } });
    await model.close();
    asked = [];
    await (await load(url, { integrity: sum(kModel), cache: 'memory' })).close();
    expect(asked).toEqual([]);
  });

  test('of a wrong file fails, and keeps nothing of it', async () => {
    served.file = kModel;
    await expect(load(url, { integrity: '0'.repeat(64), cache: 'memory' })).rejects.toMatchObject({
      code: 'integrity',
    });
    served.file = new TextEncoder().encode('<!doctype html>');
    await expect(load(url, { cache: 'memory' })).rejects.toMatchObject({ code: 'not-the-file' });
    expect(await storage.list()).toEqual([]);
  });

  test('that is aborted, or loses its engine, leaves what it had for the next', async () => {
    const controller = new AbortController();
    const onProgress = ({ loaded }: LoadProgress): void => void (loaded > 0 && controller.abort('enough'));
    served.file = kModel;
    await expect(
      load(url, { integrity: sum(kModel), cache: 'memory', signal: controller.signal, onProgress }),
    ).rejects.toBe('enough');
    await (await load(url, { integrity: sum(kModel), cache: 'memory' })).close();
  });

  test('finds files of a hub by their names, at the address that is given for it', async () => {
    const urls: string[] = [];
    const fetch = async (address: string | URL | Request): Promise<Response> => {
      urls.push(address instanceof Request ? address.url : String(address));
      return new Response(new Uint8Array(kModel));
    };
    for (const [source, hub] of [
      ['hf:some/model/file.gguf', undefined],
      ['hf:some/model@v1/in/folder.gguf', 'https://mirror.example/hub'],
    ] as const) {
      const model = await load(source, { fetch, cache: 'memory', ...(hub && { hub }) });
      expect(model.info.storage.place).toBe('memory');
      await model.close();
    }
    expect(urls).toEqual([
      'https://huggingface.co/some/model/resolve/main/file.gguf',
      'https://mirror.example/hub/some/model/resolve/v1/in/folder.gguf',
    ]);
    await expect(load('hf:model.gguf', { fetch })).rejects.toMatchObject({ code: 'bad-option' });
  });

  test.each([
    [{ cache: 'disk' }, /^cache must be 'auto', /],
    [{ resume: 1 }, /^resume must be true or false/],
    [{ hub: 3 }, /^hub must be an address/],
  ])('refuses %o', async (options, message) => {
    await expect(load(url, JSON.parse(JSON.stringify(options)))).rejects.toMatchObject({ code: 'bad-option', message });
  });
});

describe('storage', () => {
  test('lists, deletes by id, address or checksum, and counts', async () => {
    await read(known());
    const [stored] = await storage.list();
    expect(stored).toMatchObject({ id: sum(kFile), url, place: 'memory', complete: true });
    expect(await storage.estimate()).toMatchObject({ models: kFile.length, persisted: false });
    expect(await storage.delete('nothing')).toBe(0);
    for (const name of [stored?.id ?? '', new URL(url), sum(kFile)]) {
      await read(known());
      expect(await storage.delete(name)).toBe(1);
    }
    vi.stubGlobal('document', { baseURI: new URL('page.html', url).href });
    await read(known());
    expect(await storage.delete(new URL(url).pathname)).toBe(1); // as a page gives it to load()
    vi.unstubAllGlobals();
    expect(await storage.list()).toEqual([]);
    await expect(storage.delete(JSON.parse('3'))).rejects.toMatchObject({ code: 'bad-option' });
    expect(await storage.persist()).toBe(false);
  });
});
