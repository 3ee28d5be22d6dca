// The page's half: starts the worker (or falls back to this thread), sends requests, sorts the replies.
// SPDX-License-Identifier: MIT

import { deferred, type Deferred } from './deferred.js';
import { TernError, abortReason, describe } from './errors.js';
import {
  unreachable,
  type EngineInfo,
  type FileInfo,
  type KernelsReport,
  type Outcome,
  type Reply,
  type Request,
  type Task,
  type Written,
} from './protocol.js';
import type { HelperStart } from './helper.js';
import { Helpers, type Threads, type ThreadsInfo } from './threads.js';

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

/** A piece of work that was sent. */
export interface JobHandle {
  readonly outcome: Promise<Outcome>;
  allow(credit: number): void;
  stop(): void;
}

export interface JobOptions {
  signal?: AbortSignal | undefined;
  onWritten?: (written: Written) => void;
}

type Post = (request: Request, transfer: Transferable[]) => void;

interface Link {
  readonly post: Post;
  readonly end: () => void;
}

interface PendingJob extends Deferred<Outcome> {
  readonly onWritten: ((written: Written) => void) | undefined;
}

export class Client {
  #link: Link = { post: () => undefined, end: () => undefined };
  #step: Deferred<Reply> = deferred(); // the answer that loading waits for
  #failure: TernError | null = null;
  #helpers: Helpers | null = null;
  #helpersFolder: URL | null = null;
  readonly #jobs = new Map<number, PendingJob>();
  #lastId = 0;

  private constructor() {
    // Built by start() only.
  }

  static async start(runtime: Runtime, assets: Assets, threads: Threads): Promise<{ client: Client; info: PlaceInfo }> {
    const base = baseUrl();
    const wasmFolder = assets.wasm === undefined ? null : folderUrl(assets.wasm, base);
    let threadReason = "runtime: 'main' was asked for";
    if (runtime !== 'main') {
      try {
        const client = new Client();
        await client.#connectWorker(assets.worker, base);
        return { client, info: { ...(await client.#init(wasmFolder, threads)), thread: 'worker', threadReason: '' } };
      } catch (error) {
        const noWorker = error instanceof WorkerError;
        if (!noWorker) throw error;
        if (runtime === 'worker') throw new TernError('unsupported', `no worker could be started: ${error.message}`);
        threadReason = `no worker could be started: ${error.message}`;
      }
    }
    const client = new Client();
    await client.#connectHere();
    return { client, info: { ...(await client.#init(wasmFolder, threads)), thread: 'main', threadReason } };
  }

  /** Takes over `bytes`. Returns the size of the whole file, 0 while unknown. */
  async push(bytes: Uint8Array<ArrayBuffer>): Promise<number> {
    const reply = await this.#ask({ type: 'chunk', bytes }, [bytes.buffer]);
    return reply.type === 'taken' ? reply.expected : 0;
  }

  async finish(): Promise<{ file: FileInfo; engine: EngineInfo; threads: ThreadsInfo }> {
    const reply = await this.#ask({ type: 'finish' }, []);
    if (reply.type === 'loaded') return { file: reply.info, engine: reply.engine, threads: reply.threads };
    throw new TernError('engine-failed', `expected the loaded model, the engine answered ${reply.type}`);
  }

  /** Measures the kernels. Not while a model is being loaded. */
  async probe(): Promise<{ report: KernelsReport; engine: EngineInfo }> {
    const reply = await this.#ask({ type: 'probe' }, []);
    if (reply.type === 'probed') return reply;
    throw new TernError('engine-failed', `expected what was measured, the engine answered ${reply.type}`);
  }

  open(): number {
    const session = ++this.#lastId;
    this.#post({ type: 'open', session }, []);
    return session;
  }

  shut(session: number): void {
    this.#link.post({ type: 'shut', session }, []);
  }

  run(session: number, task: Task, { signal, onWritten }: JobOptions = {}): JobHandle {
    const id = ++this.#lastId;
    const pending = { ...deferred<Outcome>(), onWritten };
    const stop = (): void => this.#link.post({ type: 'abort', job: id }, []);
    const onAbort = (): void => {
      if (!signal || !this.#jobs.delete(id)) return;
      stop();
      pending.reject(abortReason(signal));
    };
    pending.promise.catch(() => undefined); // reported to whoever awaits it, and to nobody else
    this.#jobs.set(id, pending);
    if (this.#failure) {
      this.#settle(id)?.reject(this.#failure);
    } else if (signal?.aborted) {
      this.#settle(id)?.reject(abortReason(signal));
    } else {
      signal?.addEventListener('abort', onAbort);
      void pending.promise.catch(() => undefined).finally(() => signal?.removeEventListener('abort', onAbort));
      this.#post({ type: 'run', session, job: id, task }, 'bytes' in task ? [task.bytes.buffer] : []);
    }
    return {
      outcome: pending.promise,
      allow: (credit) => this.#link.post({ type: 'credit', job: id, credit }, []),
      stop,
    };
  }

  /** Ends everything in progress with `error` and gives the memory back. */
  close(error: TernError): void {
    if (this.#failure) return;
    this.#failure = error;
    this.#link.end();
    this.#link = { post: () => undefined, end: () => undefined };
    this.#helpers?.keep(0);
    this.#step.promise.catch(() => undefined);
    this.#step.reject(error);
    for (const id of [...this.#jobs.keys()]) this.#settle(id)?.reject(error);
  }

  get failure(): TernError | null {
    return this.#failure;
  }

  async #connectWorker(script: string | URL | undefined, base: string | undefined): Promise<void> {
    let worker: Worker;
    try {
      if (script !== undefined) this.#helpersFolder = new URL(script, base);
      worker =
        script === undefined
          ? new Worker(new URL('./worker.js', import.meta.url), { type: 'module' }) // literal: bundlers look for this form
          : new Worker(script, { type: 'module' });
    } catch (error) {
      throw new WorkerError(describe(error));
    }
    this.#link = { post: (request, transfer) => worker.postMessage(request, transfer), end: () => worker.terminate() };
    const hello = this.#step.promise;
    worker.addEventListener('message', (event: MessageEvent<Reply>) => this.#receive(event.data));
    worker.addEventListener('error', (event) => {
      event.preventDefault(); // it is reported here, not on the console
      const why = event.message || 'its script could not be loaded';
      this.#step.reject(new WorkerError(why));
      this.close(new TernError('engine-failed', `the worker stopped (${why}): load the model again`));
    });
    try {
      await hello;
    } catch (error) {
      worker.terminate();
      throw error;
    }
  }

  async #connectHere(): Promise<void> {
    const hello = this.#step.promise;
    const { Host } = await import('./host.js');
    const host = new Host((reply) => queueMicrotask(() => this.#receive(reply)));
    this.#link = { post: (request) => host.receive(request), end: () => host.close() };
    await hello;
  }

  async #init(wasmFolder: string | null, threads: Threads): Promise<EngineInfo> {
    const reply = await this.#ask({ type: 'init', wasmFolder, threads }, []);
    if (reply.type === 'ready') return reply.engine;
    throw new TernError('engine-failed', `expected the engine to be ready, it answered ${reply.type}`);
  }

  async #startHelpers(starts: readonly HelperStart[]): Promise<void> {
    const onStop = (why: string): void =>
      this.close(new TernError('engine-failed', `a thread stopped (${why}): load the model again`));
    let failure = '';
    try {
      this.#helpers = new Helpers(starts, this.#helpersFolder, onStop);
      await this.#helpers.ready;
    } catch (error) {
      this.#helpers?.keep(0);
      failure = describe(error);
    }
    this.#link.post({ type: 'helpers', failure }, []);
  }

  /** Loading is a conversation in lockstep: one request, one answer. */
  #ask(request: Request, transfer: Transferable[]): Promise<Reply> {
    this.#step = deferred();
    this.#post(request, transfer);
    return this.#step.promise;
  }

  #post(request: Request, transfer: Transferable[]): void {
    if (this.#failure) throw this.#failure;
    this.#link.post(request, transfer);
  }

  #receive(reply: Reply): void {
    switch (reply.type) {
      case 'hello':
      case 'ready':
      case 'taken':
      case 'loaded':
      case 'probed':
        this.#step.resolve(reply);
        return;
      case 'start-helpers':
        void this.#startHelpers(reply.starts);
        return;
      case 'keep-helpers':
        this.#helpers?.keep(reply.count);
        return;
      case 'written':
        this.#jobs.get(reply.job)?.onWritten?.(reply.written);
        return;
      case 'done':
        this.#settle(reply.job)?.resolve(reply.outcome);
        return;
      case 'job-failed':
        this.#settle(reply.job)?.reject(TernError.fromData(reply.error));
        return;
      case 'failed':
        this.close(TernError.fromData(reply.error));
        return;
      default:
        unreachable(reply);
    }
  }

  #settle(id: number): PendingJob | undefined {
    const job = this.#jobs.get(id);
    this.#jobs.delete(id);
    return job;
  }
}

/** The worker never came to life; the page's own thread can still do the work. */
class WorkerError extends Error {}

/** What relative URLs are relative to: the page, or the worker that uses the package. */
function baseUrl(): string | undefined {
  if (typeof document !== 'undefined') return document.baseURI;
  return typeof location === 'undefined' ? undefined : location.href;
}

function folderUrl(folder: string | URL, base: string | undefined): string {
  const url = new URL(folder, base);
  if (!url.pathname.endsWith('/')) url.pathname += '/';
  return url.href;
}
