// Starts an engine in a worker, or on this thread where there can be no worker, and connects to it.
// SPDX-License-Identifier: MIT

import { baseUrl, runtimeName } from '../context.js';
import type { Scope } from '../deferred.js';
import type { EngineInfo, HelperStart, Threads, ThreadsInfo } from '../engine/types.js';
import { TernError, describe, leftBehind } from '../errors.js';
import type { FromHost, ToHost } from '../host/protocol.js';
import { Connection } from './connection.js';
import { Helpers } from './helpers.js';
import { newEngineWorker } from './scripts.js';
import { Watch, kSilenceMs } from './watch.js';
import { newWorker } from './workers.js';

export type Runtime = 'auto' | 'worker' | 'main';

/** Where the package's files are, when they do not lie where its bundler put them. */
export interface Assets {
  /** The folder with tern-simd.wasm, tern-relaxed.wasm and, if threads are asked for, tern-threads.wasm. */
  wasm?: string | URL;
  /** The worker script; helper.js, which further threads run, is expected beside it. */
  worker?: string | URL;
}

/** Where the engine runs; load() adds how many threads it computes with. */
export interface PlaceInfo extends EngineInfo {
  readonly thread: 'worker' | 'main';
  /** Why the engine does not run in a worker; empty when it does. */
  readonly threadReason: string;
}

export interface RuntimeInfo extends PlaceInfo {
  readonly threads: ThreadsInfo;
}

export interface Started {
  readonly connection: Connection;
  readonly place: PlaceInfo;
  /** Ends all further threads but the first `count`. */
  readonly keepHelpers: (count: number) => void;
}

/** What load() was asked for, as far as it concerns the engine. */
export interface Wanted {
  readonly runtime: Runtime;
  readonly assets: Assets;
  readonly threads: Threads;
  /** SHA-256 of the file to come, in lower case, if it is to be compared. */
  readonly integrity: string | null;
}

/** How long a worker may take to say that its script runs. */
export const kHelloMs = 10_000;

/** An engine that has passed its tests. What was started so far ends with the scope. */
export async function start(wanted: Wanted, scope: Scope): Promise<Started> {
  const { runtime, assets, threads, integrity } = wanted;
  const worker = assets.worker === undefined ? null : absolute('assets.worker', assets.worker);
  const wasmFolder = assets.wasm === undefined ? null : folder(absolute('assets.wasm', assets.wasm));
  const [connection, threadReason] = await connect(runtime, worker, scope);
  let helpers: Helpers | null = null;
  const keepHelpers = (count: number): void => helpers?.keep(count);
  connection.whenClosed(() => keepHelpers(0));
  const startHelpers = async (starts: readonly HelperStart[]): Promise<void> => {
    let failure = '';
    try {
      helpers = new Helpers(starts, worker, (why) => connection.close(stopped('a thread', why)));
      await helpers.ready;
    } catch (error) {
      helpers?.keep(0);
      failure = describe(error);
    }
    connection.ask({ kind: 'helpers', failure });
  };
  const { engine } = await connection.ask(
    { kind: 'start', wasmFolder, threads, integrity },
    { onPart: (part) => part.kind === 'helpers' && void startHelpers(part.starts) },
  ).answer;
  if (engine.variant !== 'threads') keepHelpers(0);
  return {
    connection,
    keepHelpers,
    place: { ...engine, thread: threadReason === '' ? 'worker' : 'main', threadReason },
  };
}

/** A connection at whose other end somebody is, and why that is not in a worker (empty if it is). */
async function connect(runtime: Runtime, script: URL | null, scope: Scope): Promise<[Connection, string]> {
  let whyHere = runtime === 'main' ? "runtime: 'main' was asked for" : runtime === 'auto' ? whyNoWorker() : '';
  try {
    if (whyHere === '') return [await inWorker(script, scope), ''];
  } catch (error) {
    whyHere = `no worker could be started: ${describe(error)}`;
    if (runtime === 'worker') throw new TernError('unsupported', whyHere, { cause: error });
  }
  try {
    return [await here(scope), whyHere];
  } catch (error) {
    // A service worker, for one, imports nothing later.
    throw TernError.from(error, 'unsupported', `${whyHere}; 'ternlm/standalone' needs no import; on this thread: `);
  }
}

/** Deno does not end while there is a worker; others can be told to. */
function whyNoWorker(): string {
  const program = runtimeName();
  if (!program || typeof Worker === 'undefined' || 'unref' in Worker.prototype) return '';
  return `${program} would not end before its worker`;
}

async function inWorker(script: URL | null, scope: Scope): Promise<Connection> {
  const worker = newWorker(newEngineWorker, script);
  const watch = new Watch(
    () => worker.postMessage(kAnybody),
    () => fail(`no word of it in ${kSilenceMs / 1000} s: it may have been terminated`),
  );
  const connection = new Connection({
    send: (message, transfer) => worker.postMessage(message, transfer),
    keepAlive: (needed) => {
      keepAlive(worker, needed);
      watch.expect(needed);
    },
    end: () => worker.terminate(),
  });
  scope.add(() => connection.close(kNotNeeded));
  let begun = false;
  const fail = (why: string): void =>
    connection.close(begun ? stopped('the worker', why) : new TernError('unsupported', why));
  worker.addEventListener('message', (event: MessageEvent<FromHost>) => {
    watch.heard();
    connection.receive(event.data);
  });
  worker.addEventListener('messageerror', () => fail('a message could not be read'));
  worker.addEventListener('error', (event) => {
    event.preventDefault(); // it is reported here, not on the console
    fail(event.message || `its script could not be loaded (${kScriptRemedy})`);
  });
  const timer = setTimeout(() => fail(`it did not answer within ${kHelloMs / 1000} s`), kHelloMs);
  try {
    await connection.ask({ kind: 'hello' }).answer;
    begun = true;
    return connection;
  } finally {
    clearTimeout(timer);
  }
}

/** To a question by this number the connection knows no answer. */
const kAnybody: ToHost = { type: 'ask', id: 0, call: { kind: 'hello' } };

/** The same messages as to a worker, so that there is one way of doing things. */
async function here(scope: Scope): Promise<Connection> {
  const { Host } = await import('../host/host.js');
  const { port1, port2 } = new MessageChannel();
  const host = new Host((message, transfer) => port2.postMessage(message, transfer));
  const connection = new Connection({
    send: (message, transfer) => port1.postMessage(message, transfer),
    keepAlive: (needed) => [port1, port2].forEach((port) => keepAlive(port, needed)),
    end: () => {
      host.close();
      port1.close();
    },
  });
  port1.onmessage = ({ data }: MessageEvent<FromHost>) => connection.receive(data);
  port2.onmessage = ({ data }: MessageEvent<ToHost>) => host.receive(data);
  scope.add(() => connection.close(kNotNeeded));
  await connection.ask({ kind: 'hello' }).answer;
  return connection;
}

const kScriptRemedy = leftBehind(`'ternlm/standalone' has all inside, assets.worker says where the script is`);

const kNotNeeded = new TernError('closed', 'loading did not come to its end');

function stopped(who: string, why: string): TernError {
  return new TernError('engine-failed', `${who} stopped (${why}): load the model again`);
}

/** Browsers have no such methods, and need none: a page ends when its reader leaves. */
function keepAlive(what: object, needed: boolean): void {
  const method: unknown = Reflect.get(what, needed ? 'ref' : 'unref');
  if (typeof method === 'function') Reflect.apply(method, what, []);
}

function absolute(name: string, address: string | URL): URL {
  try {
    return new URL(address, baseUrl());
  } catch (error) {
    throw new TernError('bad-option', `${name}: ${String(address)} is no address here`, { cause: error });
  }
}

function folder(url: URL): string {
  if (!url.pathname.endsWith('/')) url.pathname += '/';
  return url.href;
}
