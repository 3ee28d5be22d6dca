// The half that owns the engine: answers messages and shares the processor between conversations, slice by slice.
// SPDX-License-Identifier: MIT
//
// Runs in the worker, or on the page's own thread where no worker can be started. One host, one model.

import { deferred } from './deferred.js';
import { Engine, type EngineLoader, type EngineModel, type EngineSession } from './engine.js';
import { TernError, toErrorData, type TernErrorCode } from './errors.js';
import { Job, newPaces } from './jobs.js';
import { unreachable, type Outcome, type Reply, type Request } from './protocol.js';
import type { HelperPool, StartHelpers, Threads } from './threads.js';

export type Send = (reply: Reply, transfer: Transferable[]) => void;

const kTuningRounds = 4; // of a millisecond for each kernel
const kTuningPauseMs = 15;
const kProbeRounds = 5;

/** A conversation and the work waiting for it. */
interface Lane {
  readonly session: EngineSession;
  readonly jobs: Job[];
}

export class Host {
  readonly #send: Send;
  readonly #paces = newPaces();
  readonly #lanes = new Map<number, Lane>(); // in the order in which their turn comes
  #engine: Engine | null = null;
  #helpers = deferred<HelperPool>();
  #tuned: Promise<void> = Promise.resolve();
  #closed = false;
  #loader: EngineLoader | null = null;
  #model: EngineModel | null = null;
  #running = false;

  constructor(send: Send) {
    this.#send = send;
    this.#reply({ type: 'hello' });
  }

  receive(request: Request): void {
    switch (request.type) {
      case 'init':
        void this.#start(request.wasmFolder, request.threads);
        return;
      case 'chunk':
        return this.#attempt(() => this.#reply({ type: 'taken', expected: this.#loading().push(request.bytes) }));
      case 'finish':
        return this.#attempt(() => this.#finish());
      case 'probe':
        void this.#probe();
        return;
      case 'open':
        return this.#attempt(() => this.#open(request.session));
      case 'shut':
        return this.#shut(request.session);
      case 'run':
        this.#lane(request.session)?.jobs.push(new Job(request.job, request.task));
        void this.#run();
        return;
      case 'credit':
        this.#find(request.job)?.job.allow(request.credit);
        void this.#run();
        return;
      case 'abort':
        return this.#abort(request.job);
      case 'helpers':
        if (request.failure === '')
          this.#helpers.resolve({ keep: (count) => this.#reply({ type: 'keep-helpers', count }) });
        else this.#helpers.reject(new Error(request.failure));
        return;
      default:
        unreachable(request);
    }
  }

  /** Gives all memory back. */
  close(): void {
    this.#closed = true;
    for (const id of [...this.#lanes.keys()]) this.#shut(id);
    this.#loader?.close();
    this.#model?.close();
    this.#loader = null;
    this.#model = null;
  }

  async #start(wasmFolder: string | null, threads: Threads): Promise<void> {
    try {
      const engine = await Engine.start(wasmFolder, threads, this.#startHelpers);
      this.#engine = engine;
      this.#loader = engine.newLoader();
      this.#reply({ type: 'ready', engine: engine.info });
      this.#tuned = this.#tune(engine);
    } catch (error) {
      this.#fail(error, 'bad-assets');
    }
  }

  readonly #startHelpers: StartHelpers = (starts) => {
    this.#reply({ type: 'start-helpers', starts });
    return this.#helpers.promise;
  };

  /**
   * Chooses the fastest kernel while the file arrives. The browser runs quickly compiled code first and compiles what is
   * called often once more, in the background: so a few short measurements with time in between, of which the best
   * counts.
   */
  async #tune(engine: Engine): Promise<void> {
    try {
      for (let round = 0; round < kTuningRounds && !this.#closed; round++) {
        await new Promise((resolve) => setTimeout(resolve, kTuningPauseMs));
        engine.probe(1);
      }
    } catch {
      // The engine has stopped: the next request says so.
    }
  }

  async #probe(): Promise<void> {
    await this.#tuned;
    this.#attempt(() => {
      const engine = this.#started();
      this.#reply({ type: 'probed', report: engine.probe(kProbeRounds), engine: engine.info });
    });
  }

  #started(): Engine {
    if (!this.#engine) throw new TernError('bad-state', 'the engine is not started');
    return this.#engine;
  }

  #loading(): EngineLoader {
    if (!this.#loader) throw new TernError('bad-state', 'no model is being loaded');
    return this.#loader;
  }

  #finish(): void {
    const loader = this.#loading();
    const model = loader.finish();
    this.#model = model;
    loader.close();
    this.#loader = null;
    const engine = this.#started();
    const threads = engine.chooseThreads(model);
    this.#reply({ type: 'loaded', info: model.info, engine: engine.info, threads });
  }

  #open(id: number): void {
    if (!this.#model) throw new TernError('bad-state', 'the model is not loaded');
    this.#lanes.set(id, { session: this.#model.open(), jobs: [] });
  }

  #shut(id: number): void {
    this.#lanes.get(id)?.session.close();
    this.#lanes.delete(id);
  }

  /** An aborted generation still says where it stood; other work ends without an answer. */
  #abort(id: number): void {
    const found = this.#find(id);
    if (!found) return;
    const { lane, job } = found;
    lane.jobs.splice(lane.jobs.indexOf(job), 1);
    if (job.task.kind !== 'generate') return;
    this.#reply({
      type: 'done',
      job: id,
      outcome: { kind: 'generate', finish: 'stopped', position: lane.session.position },
    });
  }

  /** Slice after slice, each conversation in its turn, with the messages read in between. */
  async #run(): Promise<void> {
    if (this.#running) return;
    this.#running = true;
    for (let lane = this.#next(); lane; lane = this.#next()) {
      this.#slice(lane);
      await messagesRead();
    }
    this.#running = false;
  }

  /** The conversation whose turn it is, moved to the end of the line. */
  #next(): Lane | null {
    for (const [id, lane] of this.#lanes) {
      if (!lane.jobs[0]?.runnable) continue;
      this.#lanes.delete(id);
      this.#lanes.set(id, lane);
      return lane;
    }
    return null;
  }

  #slice(lane: Lane): void {
    const job = lane.jobs[0];
    if (!job) return;
    try {
      const outcome = job.step(lane.session, this.#paces, (written) => {
        const { bytes, boundaries } = written;
        this.#reply({ type: 'written', job: job.id, written }, [
          bytes.buffer,
          ...(boundaries ? [boundaries.buffer] : []),
        ]);
      });
      if (!outcome) return;
      lane.jobs.shift();
      this.#reply({ type: 'done', job: job.id, outcome }, buffersOf(outcome));
    } catch (error) {
      lane.jobs.shift();
      const data = toErrorData(error, 'engine-failed');
      if (data.code === 'engine-failed') return this.#fail(error, 'engine-failed');
      this.#reply({ type: 'job-failed', job: job.id, error: data });
    }
  }

  #lane(id: number): Lane | undefined {
    return this.#lanes.get(id);
  }

  #find(id: number): { lane: Lane; job: Job } | undefined {
    for (const lane of this.#lanes.values()) {
      const job = lane.jobs.find((candidate) => candidate.id === id);
      if (job) return { lane, job };
    }
    return undefined;
  }

  #attempt(action: () => void): void {
    try {
      action();
    } catch (error) {
      this.#fail(error, 'engine-failed');
    }
  }

  #fail(error: unknown, fallback: TernErrorCode): void {
    this.#lanes.clear(); // the engine may be broken: nothing of it is touched again
    this.#reply({ type: 'failed', error: toErrorData(error, fallback) });
  }

  #reply(reply: Reply, transfer: Transferable[] = []): void {
    this.#send(reply, transfer);
  }
}

/** After the messages that have arrived were handled. A timer would wait 4 ms, a promise would not let them in. */
function messagesRead(): Promise<void> {
  return new Promise((resolve) => {
    if ('setImmediate' in globalThis) return void setImmediate(resolve);
    const { port1, port2 } = new MessageChannel();
    port1.onmessage = () => {
      port1.close();
      resolve();
    };
    port2.postMessage(null);
  });
}

/** What need not be copied on its way to the page. */
function buffersOf(outcome: Outcome): ArrayBuffer[] {
  if (outcome.kind === 'save') return [outcome.bytes.buffer];
  return outcome.kind === 'feed' && outcome.boundaries ? [outcome.boundaries.buffer] : [];
}
