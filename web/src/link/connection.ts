// The page's end of the link to an engine: one request, exactly one answer.
// SPDX-License-Identifier: MIT
//
// A request is settled by the host's answer, or by what ends the connection: there is no third way, and none to be
// forgotten. A request that is called off is answered too, so that what is known of its session is never out of date.

import { deferred } from '../deferred.js';
import { TernError } from '../errors.js';
import {
  buffersOf,
  unreachable,
  type Answer,
  type AnswerOf,
  type CallOf,
  type FromHost,
  type Kind,
  type Part,
  type SendToHost,
  type ToHost,
} from '../host/protocol.js';

/** A way to a host, in a worker or on this thread. */
export interface Port {
  readonly send: SendToHost;
  /** While requests wait for answers the program must go on; in between it may end (outside of browsers). */
  readonly keepAlive: (needed: boolean) => void;
  readonly end: () => void;
}

export interface AskOptions {
  signal?: AbortSignal | undefined;
  onPart?: ((part: Part) => void) | undefined;
  /** Hears how long the session's text is, before the answer is given. */
  onPosition?: ((position: number) => void) | undefined;
}

/** A request that was sent. */
export interface Request<K extends Kind> {
  /** Rejects with the signal's reason if that was aborted before the answer came. */
  readonly answer: Promise<AnswerOf<K>>;
  /** A generation may write so many tokens in all. `rules`: a table of ternlm/constraints, the first time. */
  allow(credit: number, rules?: Uint32Array<ArrayBuffer> | null): void;
  /** Nothing is expected before more is allowed: nobody has to wait for it. */
  rest(): void;
  /** Calls the work off. */
  cancel(): void;
}

interface Pending {
  part(part: Part): void;
  settle(position: number | null, error: unknown, answer: Answer | null): void;
}

export class Connection {
  readonly #port: Port;
  readonly #pending = new Map<number, Pending>();
  readonly #busy = new Set<number>(); // of the pending, those that do not rest
  readonly #whenClosed: (() => void)[] = [];
  #failure: TernError | null = null;
  #lastId = 0;

  constructor(port: Port) {
    this.#port = port;
  }

  /** Why there is no connection any more; null while there is one. */
  get failure(): TernError | null {
    return this.#failure;
  }

  /** A number that nothing else on this connection has. */
  newId(): number {
    return ++this.#lastId;
  }

  ask<K extends Kind>(call: CallOf<K>, { signal, onPart, onPosition }: AskOptions = {}): Request<K> {
    const id = this.newId();
    const { promise, resolve, reject } = deferred<AnswerOf<K>>();
    promise.catch(() => undefined); // reported to whoever awaits it, and to nobody else
    const tell = (message: ToHost): void => {
      if (!this.#pending.has(id)) return; // it has its answer
      this.#expect(id, true);
      this.#port.send(message, []);
    };
    const cancel = (): void => tell({ type: 'cancel', id });
    const settle: Pending['settle'] = (position, error, answer) => {
      signal?.removeEventListener('abort', cancel);
      this.#pending.delete(id);
      this.#expect(id, false);
      if (position !== null) onPosition?.(position);
      if (signal?.aborted) reject(signal.reason);
      else if (error !== null) reject(error);
      else if (answer && isAnswerTo<K>(call.kind, answer)) resolve(answer);
      else reject(new TernError('engine-failed', `expected an answer to ${call.kind}, found one to ${answer?.kind}`));
    };
    if (this.#failure ?? signal?.aborted) {
      reject(this.#failure ?? signal?.reason);
    } else {
      signal?.addEventListener('abort', cancel);
      this.#pending.set(id, { part: (part) => onPart?.(part), settle });
      this.#expect(id, true);
      this.#port.send({ type: 'ask', id, call }, buffersOf(call));
    }
    return {
      answer: promise,
      allow: (credit, rules = null) => tell({ type: 'allow', id, credit, rules }),
      rest: () => this.#expect(id, false),
      cancel,
    };
  }

  receive(message: FromHost): void {
    const pending = this.#pending.get(message.id);
    switch (message.type) {
      case 'part':
        return pending?.part(message.part);
      case 'answer':
        return pending?.settle(message.position, null, message.answer);
      case 'error': {
        const error = TernError.fromData(message.error);
        if (error.code === 'engine-failed') return this.close(error);
        return pending?.settle(message.position, error, null);
      }
      default:
        unreachable(message);
    }
  }

  /** `run` is called when the connection ends, or now if it has. */
  whenClosed(run: () => void): void {
    if (this.#failure) run();
    else this.#whenClosed.push(run);
  }

  /** Answers everything outstanding with `error`, refuses everything new with it, and gives the memory back. */
  close(error: TernError): void {
    if (this.#failure) return;
    this.#failure = error;
    for (const pending of [...this.#pending.values()]) pending.settle(null, error, null);
    for (const run of this.#whenClosed) run();
    this.#port.end();
  }

  #expect(id: number, news: boolean): void {
    const before = this.#busy.size;
    if (news) this.#busy.add(id);
    else this.#busy.delete(id);
    if (before > 0 !== this.#busy.size > 0) this.#port.keepAlive(news);
  }
}

function isAnswerTo<K extends Kind>(kind: K, answer: Answer): answer is AnswerOf<K> {
  return answer.kind === kind;
}
