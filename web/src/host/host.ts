// The half that owns the engine: answers requests and shares the processor between conversations, slice by slice.
// SPDX-License-Identifier: MIT
//
// Runs in the worker, or on the page's own thread where no worker can be started. One host, one model. A request is a
// call of an asynchronous function whose promise becomes its one answer.

import { deferred, messagesRead } from '../deferred.js';
import { Engine, kTileTokens, type EngineLoader, type EngineModel } from '../engine/engine.js';
import type { HelperStart } from '../engine/types.js';
import { TernError } from '../errors.js';
import { History } from './history.js';
import { Job, newPaces, type Member, type Seat } from './jobs.js';
import {
  buffersOf,
  unreachable,
  type AnswerOf,
  type Answer,
  type Call,
  type CallOf,
  type Part,
  type SendToPage,
  type ToHost,
  type Work,
} from './protocol.js';

const kTuningRounds = 4; // of a millisecond for each kernel
const kTuningPauseMs = 15;
const kProbeRounds = 5;

/** A conversation and the work waiting for it. */
interface Lane {
  /** Or why there is none. */
  readonly seat: Seat | TernError;
  readonly jobs: Job[];
}

/** Work that is done at once: of one conversation, or of several that write together. */
type Turn = readonly (Member & { readonly lane: Lane })[];

export class Host {
  readonly #send: SendToPage;
  readonly #paces = newPaces();
  readonly #lanes = new Map<number, Lane>(); // in the order in which their turn comes
  readonly #jobs = new Map<number, { job: Job; lane: Lane }>(); // by the number of their request
  readonly #helpers = deferred<null>();
  #engine: Engine | null = null;
  #loader: EngineLoader | null = null;
  #model: EngineModel | null = null;
  #tuned: Promise<void> = Promise.resolve();
  #running = false;
  #unfinished: Turn = []; // what the engine stopped in the middle of
  #closed = false;

  constructor(send: SendToPage) {
    this.#send = send;
  }

  receive(message: ToHost): void {
    switch (message.type) {
      case 'ask':
        void this.#answer(message.id, message.call);
        return;
      case 'allow':
        this.#jobs.get(message.id)?.job.allow(message.credit, message.rules);
        void this.#run();
        return;
      case 'cancel': {
        const found = this.#jobs.get(message.id);
        if (!found) return; // it has its answer
        const { job, lane } = found;
        lane.jobs.splice(lane.jobs.indexOf(job), 1);
        job.cancel(lane.seat instanceof TernError ? 0 : lane.seat.session.position);
        return;
      }
      default:
        unreachable(message);
    }
  }

  /** Gives all memory back. */
  close(): void {
    this.#closed = true;
    try {
      for (const session of [...this.#lanes.keys()]) this.#shut(session);
      this.#loader?.close();
      this.#model?.close();
    } catch {
      // The engine has stopped before: its memory goes with it.
    }
    this.#loader = null;
    this.#model = null;
  }

  async #answer(id: number, call: Call): Promise<void> {
    try {
      if (isWork(call)) return await this.#answerWork(id, call);
      const answer = await this.#do(id, call);
      this.#send({ type: 'answer', id, position: null, answer }, buffersOf(answer));
    } catch (error) {
      this.#refuse(id, null, TernError.from(error, call.kind === 'start' ? 'bad-assets' : 'engine-failed'));
    }
  }

  async #answerWork(id: number, work: Work): Promise<void> {
    const lane = this.#lanes.get(work.session);
    if (!lane) throw new TernError('closed', 'the session was closed');
    const job = new Job(
      work,
      (part) => this.#part(id, part),
      (from, to) => this.#fork(from, to),
    );
    this.#jobs.set(id, { job, lane });
    if (lane.seat instanceof TernError) job.fail(lane.seat, 0);
    else lane.jobs.push(job);
    void this.#run();
    const outcome = await job.outcome;
    this.#jobs.delete(id);
    const { position } = outcome;
    if ('error' in outcome) return this.#refuse(id, position, outcome.error);
    this.#send({ type: 'answer', id, position, answer: outcome.answer }, buffersOf(outcome.answer));
  }

  #refuse(id: number, position: number | null, { code, message }: TernError): void {
    this.#send({ type: 'error', id, position, error: { code, message } }, []);
  }

  #part(id: number, part: Part): void {
    this.#send({ type: 'part', id, part }, buffersOf(part));
  }

  async #do(id: number, call: Exclude<Call, Work>): Promise<Answer> {
    switch (call.kind) {
      case 'hello':
        return { kind: call.kind };
      case 'start':
        return this.#start(id, call);
      case 'helpers':
        if (call.failure === '') this.#helpers.resolve(null);
        else this.#helpers.reject(new Error(call.failure));
        return { kind: call.kind };
      case 'probe': {
        await this.#tuned;
        const engine = present(this.#engine, 'the engine is not started');
        return { kind: call.kind, report: engine.probe(kProbeRounds), engine: engine.info };
      }
      case 'push':
        return {
          kind: call.kind,
          expected: present(this.#loader, 'no model is being loaded').push(call.bytes, call.of),
        };
      case 'finish':
        return this.#finish();
      case 'open':
        this.#lanes.set(call.session, { seat: this.#open(call.memory), jobs: [] });
        return { kind: call.kind };
      case 'shut':
        this.#shut(call.session);
        return { kind: call.kind };
      case 'peek': {
        const lane = this.#lanes.get(call.session);
        if (!lane || lane.seat instanceof TernError) throw new TernError('closed', 'the session was closed');
        return { kind: call.kind, bytes: lane.seat.session.save() };
      }
      default:
        return unreachable(call);
    }
  }

  async #start(id: number, { kind, wasmFolder, threads, integrity }: CallOf<'start'>): Promise<AnswerOf<'start'>> {
    const startHelpers = async (starts: readonly HelperStart[]): Promise<void> => {
      this.#part(id, { kind: 'helpers', starts });
      await this.#helpers.promise;
    };
    const engine = await Engine.start(wasmFolder, threads, startHelpers);
    this.#engine = engine;
    this.#loader = engine.newLoader(integrity);
    this.#tuned = this.#tune(engine);
    return { kind, engine: engine.info };
  }

  /**
   * Chooses the fastest kernel while the file arrives. The browser runs quickly compiled code first and compiles what is
   * called often once more, in the background: so a few short measurements with time in between, of which the best
   * counts.
   */
  async #tune(engine: Engine): Promise<void> {
    try {
      for (let round = 0; round < kTuningRounds && !this.#closed; round++) {
        await new Promise((resolve) => setTimeout(resolve, kTuningPauseMs));
        const { kernels, tables } = engine.probe(1);
        const one = kernels.find(({ inUse }) => inUse)?.gmacPerS ?? 0;
        if (this.#model) continue; // real work tells more
        this.#paces.write.expect(1e9 * one);
        this.#paces.read.expect(1e9 * Math.max(one, tables.gmacPerS ?? 0));
      }
    } catch {
      // The engine has stopped: the next request says so.
    }
  }

  #finish(): AnswerOf<'finish'> {
    const loader = present(this.#loader, 'no model is being loaded');
    const engine = present(this.#engine, 'the engine is not started');
    const model = loader.finish();
    this.#model = model;
    loader.close();
    this.#loader = null;
    const threads = engine.chooseThreads(model);
    return { kind: 'finish', file: model.info, tokenizer: model.tokenizer, engine: engine.info, threads };
  }

  /** Where there is no memory for one more, it alone fails: with every use. */
  #open(memory: number | null): Seat | TernError {
    try {
      const model = present(this.#model, 'the model is not loaded');
      const room = model.info.stateBytesPerToken > 0 ? 0 : memory;
      return { session: model.open(), history: memory === null ? null : new History(room ?? 0) };
    } catch (error) {
      if (error instanceof TernError && error.code === 'out-of-memory') return error;
      throw error;
    }
  }

  #fork({ session: from, history }: Seat, to: number): void {
    const session = present(this.#model, 'the model is not loaded').open();
    try {
      session.restore(from.save());
    } catch (error) {
      session.close();
      throw error;
    }
    this.#lanes.set(to, { seat: { session, history: history?.copy() ?? null }, jobs: [] });
  }

  #shut(session: number): void {
    const lane = this.#lanes.get(session);
    this.#lanes.delete(session);
    if (!lane || lane.seat instanceof TernError) return;
    const { session: left } = lane.seat;
    const { position } = left;
    for (const job of lane.jobs.splice(0)) job.fail(new TernError('closed', 'the session was closed'), position);
    left.close();
  }

  /** Slice after slice, each conversation in its turn, with the messages read in between. */
  async #run(): Promise<void> {
    if (this.#running) return;
    this.#running = true;
    for (;;) {
      await messagesRead();
      const turn = this.#next();
      if (turn.length === 0) break;
      this.#slice(turn);
    }
    this.#running = false;
  }

  /** Whose turn it is, moved to the end of the line; first those that stopped in the middle of a tile. */
  #next(): Turn {
    const unfinished = this.#unfinished;
    if (unfinished.length > 0 && unfinished.every(({ lane, job }) => job.runnable && lane.jobs[0] === job)) {
      return unfinished;
    }
    const turn = new Map<number, Turn[number]>();
    for (const [id, lane] of this.#lanes) {
      const { seat, jobs } = lane;
      const job = jobs[0];
      if (!job?.runnable || seat instanceof TernError || (turn.size > 0 && !job.joins)) continue;
      turn.set(id, { lane, seat, job });
      if (!job.joins || turn.size === kTileTokens) break;
    }
    for (const [id, { lane }] of turn) {
      this.#lanes.delete(id);
      this.#lanes.set(id, lane);
    }
    return [...turn.values()];
  }

  #othersWait(turn: Turn): boolean {
    for (const lane of this.#lanes.values()) {
      if (lane.jobs[0]?.runnable && !turn.some((member) => member.lane === lane)) return true;
    }
    return false;
  }

  #slice(turn: Turn): void {
    const isLast = this.#unfinished === turn && this.#othersWait(turn);
    this.#unfinished = [];
    try {
      const [first] = turn;
      const isOver =
        first && turn.length === 1
          ? [first.job.step(first.seat, this.#paces, isLast)]
          : Job.stepTogether(turn, this.#paces, isLast);
      turn.forEach(({ lane }, i) => isOver[i] && lane.jobs.shift());
      const rest = turn.filter((_, i) => !isOver[i]);
      if (rest.some(({ seat }) => seat.session.isInsideBatch)) this.#unfinished = rest;
    } catch (error) {
      turn.forEach(({ lane }) => lane.jobs.shift());
      const failure = TernError.from(error, 'engine-failed');
      if (failure.code !== 'engine-failed') {
        turn.forEach(({ job, seat }) => job.fail(failure, seat.session.position));
        return;
      }
      this.#lanes.clear(); // the engine may be broken: it is not touched again
      for (const each of this.#jobs.values()) each.job.fail(failure, null);
    }
  }
}

function isWork(call: Call): call is Work {
  return 'session' in call && call.kind !== 'open' && call.kind !== 'shut' && call.kind !== 'peek';
}

function present<T>(value: T | null, otherwise: string): T {
  if (value === null) throw new TernError('bad-state', otherwise);
  return value;
}
