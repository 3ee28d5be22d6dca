// Every method and promise that a model, a session and a generation have, found by looking at the classes: whatever ends
// what they wait for, they settle. tests/web/settle.test.ts says with what; here, also those settle that are still to come.
// SPDX-License-Identifier: MIT

import { afterEach, describe, expect, test, vi } from 'vitest';
import { load, type Model } from '../../web/src/index.js';
import { anyModel } from './golden.js';
import { StandInWorker, withWorkers } from './worker.js';

const kLong = new Uint8Array(8_000_000).fill(97); // takes far longer than any test

interface Place {
  readonly model: Model;
  readonly signal: AbortSignal;
}

/** An object of each class, busy until it is ended. */
const kObjects: Record<string, (place: Place) => object> = {
  Model: ({ model, signal }) => {
    model.score(kLong, { signal }).catch(() => undefined);
    return model;
  },
  Session: ({ model, signal }) => {
    const session = model.session();
    session.feed(kLong, { signal }).catch(() => undefined);
    return session;
  },
  Generation: ({ model, signal }) => model.stream(kLong, { signal }),
};

/** What a method is called with where it is not a text and options. */
const kArguments: Record<string, (signal: AbortSignal) => unknown[]> = {
  'Model.session': () => [],
  'Model.restore': () => [new Uint8Array(9)],
  'Session.stream': (signal) => [{ signal, maxBytes: 2 }],
  'Session.next': (signal) => [{ signal }],
  'Session.restore': () => [new Uint8Array(9)],
  'Session.rewind': (signal) => [0, { signal }],
};

const kEnds: Record<string, (place: Place, abort: () => void) => unknown> = {
  'the model is closed': async ({ model }) => model.close(),
  'the signal is aborted': (_, abort) => abort(),
  'the worker dies': () => StandInWorker.all.at(-1)?.die('out of luck'),
};

async function newPlace(): Promise<Place & { abort: () => void }> {
  withWorkers();
  const model = await load(anyModel());
  const controller = new AbortController();
  return { model, signal: controller.signal, abort: () => controller.abort() };
}

/** What a program can name: methods, and properties that are computed. */
function namesOf(object: object): (string | symbol)[] {
  return Reflect.ownKeys(Reflect.getPrototypeOf(object) ?? {}).filter((name) => name !== 'constructor');
}

/** Reads the property or calls the method, and waits for all that comes of it. */
async function use(object: object, name: string | symbol, given: unknown[]): Promise<void> {
  const found: unknown = Reflect.get(object, name);
  await follow(typeof found === 'function' ? Reflect.apply(found, object, given) : found);
}

async function follow(value: unknown): Promise<void> {
  const found: unknown = await value;
  if (!isIterable(found)) return;
  const reader = found[Symbol.asyncIterator]();
  while (!(await reader.next()).done);
}

function isIterable(value: unknown): value is AsyncIterable<unknown> {
  return typeof value === 'object' && value !== null && Symbol.asyncIterator in value;
}

afterEach(() => vi.unstubAllGlobals());

test.each(Object.keys(kObjects))('a %s is what the tests below take it for', async (name) => {
  const place = await newPlace();
  const object = kObjects[name]?.(place) ?? {};
  expect(object.constructor.name).toBe(name);
  expect(namesOf(object).length).toBeGreaterThan(5);
  await place.model.close();
});

describe.each(Object.entries(kEnds))('when %s', (_, end) => {
  test.each(Object.entries(kObjects))('everything that a %s has settles', async (className, make) => {
    const first = await newPlace();
    const names = namesOf(make(first));
    await first.model.close();
    const waiting = new Set<string>();
    for (const name of names) {
      const place = await newPlace();
      const object = make(place);
      const label = `${className}.${String(name)}`;
      waiting.add(label);
      const given = kArguments[label]?.(place.signal) ?? ['x', { signal: place.signal }];
      const used = use(object, name, given).catch(() => undefined);
      await new Promise((resolve) => setTimeout(resolve, 2));
      await end(place, place.abort);
      const settled = used.then(() => waiting.delete(label));
      const patience = new Promise((resolve) => setTimeout(resolve, 20_000)); // only what hangs is not done by then
      await Promise.race([settled, patience]);
      await place.model.close();
    }
    expect([...waiting]).toEqual([]);
  });
});
