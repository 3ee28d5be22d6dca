// Loading can be ended at any point, waits for nobody without end, and no error leaves it without a code.
// SPDX-License-Identifier: MIT

import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { kHelloMs } from '../../web/src/link/start.js';
import { load, probe, type LoadOptions } from '../../web/src/index.js';
import { anyModel } from './golden.js';
import { StandInWorker, withWorkers } from './worker.js';

const kFile = anyModel();
const kNever = new Promise<never>(() => undefined);
const pause = (): Promise<void> => new Promise((resolve) => setTimeout(resolve, 5));

afterEach(() => {
  vi.useRealTimers();
  vi.unstubAllGlobals();
  vi.restoreAllMocks();
});

describe('a worker', () => {
  test('is used, and holds no program that waits for nothing', async () => {
    withWorkers();
    const model = await load(kFile);
    const worker = StandInWorker.all[0];
    expect(model.info.runtime).toMatchObject({ thread: 'worker', threadReason: '' });
    await vi.waitFor(() => expect(worker?.holds).toBe(false));
    const running = model.generate('x', { maxBytes: 20 });
    expect(worker?.holds).toBe(true);
    await running;
    await vi.waitFor(() => expect(worker?.holds).toBe(false));
    const unread = model.stream('x', { greedy: true, maxBytes: 1e9 });
    await unread[Symbol.asyncIterator]().next();
    while (worker?.holds) await pause(); // until it has written as far as it may
    await model.close();
    expect(worker?.terminated).toBe(true);
  });

  test.each([
    ['that does not answer', () => vi.advanceTimersByTime(kHelloMs), /it did not answer within 10 s$/],
    ['that dies', (worker: StandInWorker) => worker.die('no such module'), /no such module$/],
  ])('%s is replaced by this thread, which says why', async (_, happen, why) => {
    withWorkers(false);
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
    const loading = load(kFile);
    const demanded = load(kFile, { runtime: 'worker' });
    demanded.catch(() => undefined);
    await new Promise((resolve) => setImmediate(resolve));
    expect(StandInWorker.all.length).toBe(2);
    StandInWorker.all.forEach(happen);
    vi.useRealTimers();
    const model = await loading;
    expect(model.info.runtime.thread).toBe('main');
    expect(model.info.runtime.threadReason).toMatch(/^no worker could be started: /);
    expect(model.info.runtime.threadReason).toMatch(why);
    await expect(demanded).rejects.toMatchObject({ code: 'unsupported', message: expect.stringMatching(why) });
    await model.close();
  });

  test('that does not answer is not waited for after an abort', async () => {
    withWorkers(false);
    const controller = new AbortController();
    const loading = load(kFile, { signal: controller.signal });
    loading.catch(() => undefined);
    await pause();
    controller.abort('my reason');
    await expect(loading).rejects.toBe('my reason');
    expect(StandInWorker.all[0]?.terminated).toBe(true);
  });

  test('that stops after it has begun is reported', async () => {
    withWorkers();
    const model = await load(kFile);
    StandInWorker.all[0]?.die('gone');
    await expect(model.score('x')).rejects.toMatchObject({
      code: 'engine-failed',
      message: 'the worker stopped (gone): load the model again',
    });
    await expect(load(kFile).then(async (next) => next.close())).resolves.toBeUndefined();
  });

  test('is not used where a program would not end before it', async () => {
    vi.stubGlobal('Worker', EventTarget); // it has no unref()
    const model = await load(kFile);
    expect(model.info.runtime).toMatchObject({ thread: 'main', threadReason: 'Node would not end before its worker' });
    await model.close();
  });
});

describe.each(['worker', 'main'] as const)('an abort (%s)', (runtime) => {
  beforeEach(() => {
    if (runtime === 'worker') withWorkers();
  });

  const moments: [string, () => { source?: ReadableStream<Uint8Array>; options?: LoadOptions }][] = [
    [
      'while the engine is compiled',
      () => {
        vi.spyOn(WebAssembly, 'compile').mockReturnValue(kNever);
        return {};
      },
    ],
    ['while the server has not answered', () => ({ options: { fetch: async () => kNever } })],
    ['while bytes are awaited', () => ({ source: new ReadableStream<Uint8Array>({ pull: async () => kNever }) })],
  ];

  test.each(moments)('%s is answered at once with its reason', async (_, prepare) => {
    const { source, options } = prepare();
    const controller = new AbortController();
    const loading = load(source ?? (options ? 'https://example.invalid/' : kFile), {
      ...options,
      runtime,
      signal: controller.signal,
    });
    loading.catch(() => undefined);
    await pause();
    controller.abort('my reason');
    await expect(loading).rejects.toBe('my reason');
    for (const worker of StandInWorker.all) expect(worker.terminated).toBe(true);
  });

  test('ends a probe, too', async () => {
    vi.spyOn(WebAssembly, 'compile').mockReturnValue(kNever);
    const controller = new AbortController();
    const probing = probe({ runtime, signal: controller.signal });
    setTimeout(() => controller.abort(), 5);
    await expect(probing).rejects.toMatchObject({ name: 'AbortError' });
  });

  test('gives the same reason everywhere', async () => {
    const model = await load(kFile, { runtime });
    for (const reason of ['text', 7, null, new Error('mine'), { any: 'thing' }]) {
      const signal = AbortSignal.abort(reason);
      const session = model.session();
      const asked = [
        async () => load(kFile, { runtime, signal }),
        async () => probe({ runtime, signal }),
        async () => model.generate('x', { signal }),
        async () => model.score('x', { signal }),
        async () => session.feed('x', { signal }),
        async () => session.stream({ signal }).stop(),
        async () => session.stream({ signal }).text.getReader().read(),
      ];
      for (const ask of asked) await expect(ask()).rejects.toBe(reason);
    }
    await model.close();
  });
});

describe('an error', () => {
  test('of onProgress is what loading fails with', async () => {
    const mine = new RangeError('mine');
    const onProgress = (): never => {
      throw mine;
    };
    await expect(load(kFile, { onProgress })).rejects.toBe(mine);
  });

  test('of a thread on which nothing can be imported has a code', async () => {
    vi.doMock('../../web/src/host/host.js', () => {
      throw new TypeError('import() is disallowed on ServiceWorkerGlobalScope');
    });
    await expect(load(kFile)).rejects.toMatchObject({
      name: 'TernError',
      code: 'unsupported',
      message: expect.stringMatching(/^no worker could be started: .*; on this thread: /),
    });
    vi.doUnmock('../../web/src/host/host.js');
  });

  test.each<[unknown, RegExp]>([
    [null, /^options must be an object, found null$/],
    [7, /^options must be an object, found 7$/],
    [{ onprogress: () => undefined }, /^unknown option onprogress; known are signal, onProgress, /],
    [{ onProgress: true }, /^onProgress must be a function, found true$/],
    [{ fetch: 'https://a.b' }, /^fetch must be a function, found "https:\/\/a.b"$/],
    [{ signal: 'now' }, /^signal must be an AbortSignal, found "now"$/],
    [{ bytes: -1 }, /^bytes must be a whole number from 1 to/],
    [{ bytes: '10' }, /^bytes must be/],
    [{ integrity: 7 }, /^integrity must be 64 hexadecimal digits/],
    [{ integrity: 'abc' }, /^integrity must be 64 hexadecimal digits \(SHA-256\), found "abc"$/],
    [{ runtime: 'gpu' }, /^runtime must be 'auto', 'worker' or 'main', found "gpu"$/],
    [{ assets: 'here' }, /^assets must be an object/],
    [{ assets: { wasms: 'here' } }, /^unknown option assets.wasms; known are wasm, worker$/],
    [{ assets: { wasm: 7 } }, /^assets.wasm must be an address, found 7$/],
    [{ assets: { worker: 'https://' } }, /^assets.worker: https:\/\/ is no address here$/],
  ])('of wrong options names what was expected (%#)', async (options, message) => {
    const expected = { code: 'bad-option', message: expect.stringMatching(message) };
    await expect(load(kFile, options as LoadOptions)).rejects.toMatchObject(expected);
  });

  test('of options that probe does not know says so', async () => {
    const options = { kernel: 'scalar' } as LoadOptions;
    await expect(probe(options)).rejects.toMatchObject({
      message: /^unknown option kernel; known are signal, runtime/,
    });
  });

  test('of prompts and options of calls has a code, and the session goes on', async () => {
    await using model = await load(kFile);
    await using session = model.session();
    const wrong = JSON.parse('5');
    const calls = [
      async () => model.generate(wrong),
      async () => model.stream(wrong).result,
      async () => model.score(wrong),
      async () => session.feed(wrong),
      async () => session.score(wrong),
      async () => session.restore(wrong),
      async () => session.restore(JSON.parse('"text"')),
      async () => model.generate('x', JSON.parse('null')),
      async () => model.score('x', JSON.parse('{"signal": 1}')),
      async () => model.score('x', JSON.parse('{"maxBytes": 1}')),
      async () => session.feed('x', JSON.parse('{"traces": 1}')),
      async () => session.feed('x', JSON.parse('null')),
      async () => session.stream(JSON.parse('[1]')).result,
    ];
    for (const call of calls) await expect(call()).rejects.toMatchObject({ name: 'TernError', code: 'bad-option' });
    await session.feed('goes on');
    expect(session.position).toBe(7);
  });
});
