// Whatever a program asked for, and however it ends, every promise settles: with a result, an error, or `closed`.
// SPDX-License-Identifier: MIT

import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { EngineModel, EngineSession } from '../../web/src/engine/engine.js';
import { load, type Model, type Session } from '../../web/src/index.js';
import { kSilenceMs } from '../../web/src/link/watch.js';
import { findEndlessPrompt } from './endless.js';
import { anyModel } from './golden.js';
import { StandInWorker, withWorkers } from './worker.js';

const kLong = new Uint8Array(8_000_000).fill(97); // takes far longer than any test
const kEndless = { greedy: true, maxBytes: 1_000_000_000 };

let model: Model;
let endless: Uint8Array | undefined; // found once

beforeEach(async () => {
  withWorkers();
  model = await load(anyModel());
  expect(model.info.runtime.thread).toBe('worker');
  endless ??= await findEndlessPrompt(model);
});

afterEach(async () => {
  await model.close();
  vi.useRealTimers();
  vi.unstubAllGlobals();
});

const found = (): Uint8Array => endless ?? new Uint8Array(0);

type Ask = (session: Session, signal?: AbortSignal) => Promise<unknown>;

/** A call of each method, none of which ends by itself. */
const kCalls: Record<string, Ask> = {
  'session.feed': (session, signal) => session.feed(kLong, { signal }),
  'session.score': (session, signal) => session.score(kLong, { signal }),
  'session.scoreStream': async (session, signal) => readAll(session.scoreStream(kLong, { signal })),
  'session.scoreStream behind other work': async (session, signal) =>
    waiting(session, async () => readAll(session.scoreStream('x', { signal }))),
  'session.save': async (session) => waiting(session, () => session.save()),
  'session.snapshot': async (session) => waiting(session, () => session.snapshot()),
  'session.fork': async (session) => waiting(session, () => session.fork()),
  'session.rewind': async (session, signal) => waiting(session, () => session.rewind(0, { signal })),
  'session.restore': async (session) => waiting(session, () => session.restore(new Uint8Array(9))),
  'session.reset': async (session) => waiting(session, () => session.reset()),
  'session.stream, its result': (session, signal) => unread(session, signal).result,
  'session.stream, read': async (session, signal) => readAll(unread(session, signal)),
  'session.stream, its text': async (session, signal) => readAll(unread(session, signal).text),
  'session.stream, its bytes': async (session, signal) => readAll(unread(session, signal).bytes),
  'session.stream behind other work': async (session, signal) => waiting(session, () => unread(session, signal).result),
  'model.score': (_, signal) => model.score(kLong, { signal }),
  'model.scoreStream': async (_, signal) => readAll(model.scoreStream(kLong, { signal })),
  'model.compress': (_, signal) => model.compress(kLong, { signal }),
  'model.decompress': async (_, signal) => {
    const { readable, writable } = model.decompressStream({ signal }); // waits for data
    void writable;
    return readAll({ [Symbol.asyncIterator]: () => ({ next: async () => readable.getReader().read() }) });
  },
  'model.generate, reading': (_, signal) => model.generate(kLong, { signal }),
  'model.generate, writing': (_, signal) => model.generate(found(), { ...kEndless, signal }),
  'model.stream, its boundaries': (_, signal) => model.stream(kLong, { signal }).promptBoundaries,
};
const kTakeSignals = Object.keys(kCalls).filter((name) => !/save|snapshot|fork|restore|reset/.test(name));
const kOfSessions = Object.keys(kCalls).filter((name) => name.startsWith('session'));

/** Asks behind other work of the session. */
async function waiting(session: Session, ask: () => Promise<unknown>): Promise<unknown> {
  session.feed(kLong).catch(() => undefined);
  return ask();
}

function unread(session: Session, signal?: AbortSignal): ReturnType<Session['stream']> {
  session.feed(found()).catch(() => undefined);
  return session.stream({ ...kEndless, signal });
}

async function readAll(source: AsyncIterable<unknown>): Promise<void> {
  const reader = source[Symbol.asyncIterator]();
  while (!(await reader.next()).done);
}

const kVanished = 'the worker stopped (no word of it in 35 s: it may have been terminated): load the model again';

/** However late a call asks the worker: some load what they need first. */
async function untilSettled(asked: Promise<unknown>): Promise<void> {
  const settled = asked.then(
    () => true,
    () => true,
  );
  while (!(await Promise.race([settled, underWay().then(() => false)]))) vi.advanceTimersByTime(kSilenceMs);
}

const underWay = (): Promise<void> => new Promise((resolve) => setTimeout(resolve, 5));

describe.each(Object.keys(kCalls))('%s', (name) => {
  const ask: Ask = (session, signal) => {
    const asked = kCalls[name]?.(session, signal) ?? Promise.resolve();
    asked.catch(() => undefined);
    return asked;
  };

  test('fails with `closed` when the model is closed, at once or under way', async () => {
    const session = model.session();
    const atOnce = ask(session);
    const later = ask(model.session());
    await underWay();
    const third = ask(session);
    await model.close();
    for (const each of [atOnce, later, third]) await expect(each).rejects.toMatchObject({ code: 'closed' });
    await expect(async () => ask(session)).rejects.toMatchObject({ code: 'closed' });
  });

  test('fails with what happened when the worker dies, and so does everything after', async () => {
    const session = model.session();
    const asked = ask(session);
    await underWay();
    StandInWorker.all.at(-1)?.die('out of luck');
    await expect(asked).rejects.toMatchObject({
      code: 'engine-failed',
      message: 'the worker stopped (out of luck): load the model again',
    });
    await expect(async () => ask(session)).rejects.toMatchObject({ code: 'engine-failed' });
    await session.close();
  });

  test('fails when the worker was terminated and nobody was told, and so does everything after', async () => {
    vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval'] });
    const session = model.session();
    const asked = ask(session);
    StandInWorker.all.at(-1)?.vanish(); // before an answer: decompress, once open, expects none but waits for data
    await untilSettled(asked);
    await expect(asked).rejects.toMatchObject({ code: 'engine-failed', message: kVanished });
    await expect(async () => ask(session)).rejects.toMatchObject({ code: 'engine-failed' });
    await session.close();
  });

  test.runIf(kTakeSignals.includes(name))('fails with the reason of its signal, and no listener stays', async () => {
    const { signal, abort, listeners } = watchedSignal();
    const session = model.session();
    const asked = ask(session, signal);
    await underWay();
    abort('never mind');
    await expect(asked).rejects.toBe('never mind');
    expect(listeners()).toBe(0);
    await expect(async () => ask(session, signal)).rejects.toBe('never mind'); // nor does it begin
    expect(listeners()).toBe(0);
    expect((await model.generate('x', { maxBytes: 1, seed: 1 })).bytes.length).toBeLessThan(2); // the engine is free
    await session.close();
  });

  test.runIf(kOfSessions.includes(name))('fails with `closed` when the session is closed', async () => {
    const session = model.session();
    const asked = ask(session);
    await underWay();
    const behind = ask(session);
    await session.close();
    await expect(asked).rejects.toMatchObject({ code: 'closed' });
    await expect(behind).rejects.toMatchObject({ code: 'closed' });
    await expect(async () => ask(session)).rejects.toMatchObject({ code: 'closed' });
    expect((await model.generate('x', { maxBytes: 1, seed: 1 })).bytes.length).toBeLessThan(2); // the model goes on
  });
});

test('a session that is closed in the middle of a tile is let go, and the others go on', async () => {
  vi.spyOn(EngineSession.prototype, 'isInsideBatch', 'get').mockReturnValue(true);
  const session = model.session();
  const asked = session.feed(kLong);
  asked.catch(() => undefined);
  const other = model.generate('x', { maxBytes: 3, greedy: true });
  other.catch(() => undefined);
  await underWay();
  await session.close();
  await expect(asked).rejects.toMatchObject({ code: 'closed' });
  expect((await other).bytes.length).toBe(3);
  vi.restoreAllMocks();
});

test('a stopped generation has a result whatever it waits for, and a failed one says why', async () => {
  for (const prompt of [kLong, found()]) {
    const generation = model.stream(prompt, kEndless);
    await underWay();
    expect((await generation.stop()).finish).toBe('stopped');
  }
  const session = model.session();
  const generation = session.stream(kEndless);
  await session.close();
  await expect(generation.stop()).rejects.toMatchObject({ code: 'closed' });
});

test.each(['main', 'worker'] as const)('an engine that stops (%s) is said to everybody who waits', async (runtime) => {
  const broken = await load(anyModel(), { runtime });
  const [session, other] = [broken.session(), broken.session()];
  const stop = (): never => {
    throw new Error('unreachable');
  };
  const waits: Promise<unknown>[] = [
    other.feed(kLong),
    broken.generate(found(), kEndless),
    other.save(),
    broken.score(kLong),
  ];
  for (const each of waits) each.catch(() => undefined);
  await underWay();
  vi.spyOn(EngineSession.prototype, 'restore').mockImplementation(stop);
  vi.spyOn(EngineModel.prototype, 'close').mockImplementation(stop);
  waits.push(session.restore(new Uint8Array(9)));
  for (const each of waits) {
    await expect(each).rejects.toMatchObject({ code: 'engine-failed', message: expect.stringMatching(/unreachable/) });
  }
  await expect(session.feed('x')).rejects.toMatchObject({ code: 'engine-failed' });
  await Promise.all([session.close(), broken.close()]);
  vi.restoreAllMocks();
});

test('a signal that lives long holds on to nothing that has ended', async () => {
  const { signal, listeners } = watchedSignal();
  const session = model.session();
  for (let i = 0; i < 20; i++) {
    await session.feed('x', { signal });
    await session.score('x', { signal });
    await session.stream({ signal, maxBytes: 2 }).result;
    await model.generate('x', { signal, maxBytes: 2 });
    await model.score('x', { signal });
    await readAll(model.scoreStream('x', { signal }));
    await model.decompress(await model.compress('x', { signal }), { signal });
    await (await load(anyModel(), { signal })).close();
  }
  expect(listeners()).toBe(0);
});

/** A signal that counts its listeners. */
function watchedSignal(): { signal: AbortSignal; abort: (reason: unknown) => void; listeners: () => number } {
  const controller = new AbortController();
  const { signal } = controller;
  let count = 0;
  const [add, remove] = [signal.addEventListener.bind(signal), signal.removeEventListener.bind(signal)];
  const added = new Set<unknown>();
  signal.addEventListener = (type: string, listener: EventListenerOrEventListenerObject) => {
    if (!added.has(listener)) count++;
    added.add(listener);
    add(type, listener);
  };
  signal.removeEventListener = (type: string, listener: EventListenerOrEventListenerObject) => {
    if (added.delete(listener)) count--;
    remove(type, listener);
  };
  return { signal, abort: (reason) => controller.abort(reason), listeners: () => count };
}

test('a worker that answers is waited for, however long its work takes; one of which nothing is expected is not asked', async () => {
  vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval'] });
  const asked = model.score(kLong);
  asked.catch(() => undefined);
  for (let i = 0; i < 30; i++) {
    vi.advanceTimersByTime(kSilenceMs / 7);
    await underWay();
    await underWay();
  }
  expect((await model.generate('x', { maxBytes: 1, seed: 1 })).bytes.length).toBeLessThan(2);
  await model.close();
  await expect(asked).rejects.toMatchObject({ code: 'closed' });
  expect(vi.getTimerCount()).toBe(0);
});
