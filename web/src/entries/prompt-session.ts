// One conversation of the Prompt API: prompts in turn, each of them wholly part of it or not at all.
// SPDX-License-Identifier: MIT

import type { Generation } from '../api/generation.js';
import type { Model } from '../api/model.js';
import type { SampleOptions } from '../api/options.js';
import type { Session } from '../api/session.js';
import type { Input } from '../codec.js';
import { abortable, deferred } from '../deferred.js';
import { TernError, describe } from '../errors.js';
import type { Constraint } from '../extras.js';
import { refusal, toMessages, translate, translated, type PlainMessage, type Prompt } from './prompt-messages.js';

/** How messages become text of the model; `answers`: the model writes next. */
export type Render = (messages: readonly PlainMessage[], answers: boolean) => Input;

export interface CallOptions {
  /** Ends the call with its reason; the conversation is then as it was before. */
  signal?: AbortSignal;
}

export interface PromptOptions extends CallOptions {
  /**
   * A JSON schema, or a regular expression that the whole answer matches (see `constraint` of a generation). What cannot be
   * met, or is not regular: NotSupportedError.
   */
  responseConstraint?: object;
  /** The model never reads the constraint: true or not, nothing of it becomes part of the prompt. */
  omitResponseConstraintInput?: boolean;
}

/** What a conversation and its clones have in common. */
export interface Setting {
  readonly model: Model;
  readonly render: Render;
  readonly sampling: SampleOptions;
  readonly topK: number;
  readonly temperature: number;
  /** One more, or one fewer, uses the model. */
  readonly hold: () => void;
  readonly release: () => void;
}

/**
 * Calls run in the order in which they were made. They reject with the signal's reason, AbortError when the conversation
 * is destroyed, InvalidStateError when it was, QuotaExceededError when the model's context is full, NotSupportedError for
 * what cannot be had, and TypeError or SyntaxError for what is no prompt.
 */
export class LanguageModel extends EventTarget {
  readonly #setting: Setting;
  readonly #session: Session;
  readonly #destroyed = new AbortController();
  #turn: Promise<unknown> = Promise.resolve();

  /** Called by create() and clone(). */
  constructor(setting: Setting) {
    super();
    this.#setting = setting;
    this.#session = setting.model.session({ checkpoints: 0 }); // it never goes back further than one prompt
    setting.hold();
  }

  get topK(): number {
    return this.#setting.topK;
  }

  get temperature(): number {
    return this.#setting.temperature;
  }

  /** Tokens of the conversation so far; of a model of bytes, bytes. */
  get inputUsage(): number {
    return this.#session.position;
  }

  /** How many there can be: Infinity for a recurrent model. */
  get inputQuota(): number {
    return quotaOf(this.#setting.model);
  }

  /** The newer name of `inputUsage`. */
  get contextUsage(): number {
    return this.inputUsage;
  }

  /** The newer name of `inputQuota`. */
  get contextWindow(): number {
    return this.inputQuota;
  }

  /** Continues the conversation with the messages and an answer, which it resolves to. */
  async prompt(input: Prompt, options: PromptOptions = {}): Promise<string> {
    let whole = '';
    for await (const text of this.#answer(input, options).pieces) whole += text;
    return whole;
  }

  /** The same in pieces. The answer is written whether they are read or not; whoever cancels takes the prompt back. */
  promptStreaming(input: Prompt, options: PromptOptions = {}): ReadableStream<string> {
    const { pieces, leave } = this.#answer(input, options);
    return new ReadableStream<string>({
      async pull(controller) {
        const { value, done } = await pieces.next();
        if (done) controller.close();
        else controller.enqueue(value);
      },
      cancel: leave,
    });
  }

  /** Continues the conversation with the messages, and no answer. */
  async append(input: Prompt, { signal }: CallOptions = {}): Promise<void> {
    const text = this.#setting.render(toMessages(input, false), false);
    await this.#inTurn([signal], async (ends) => this.#wholly(async () => this.#session.feed(text, { signal: ends })));
  }

  /** How much of the quota the messages would use. */
  async measureInputUsage(input: Prompt, options: PromptOptions = {}): Promise<number> {
    const text = this.#setting.render(toMessages(input, false), true);
    return this.#inTurn([options.signal], async (signal) => {
      const copy = this.#setting.model.session({ checkpoints: 0 });
      try {
        await copy.restore(await this.#session.snapshot());
        const before = copy.position;
        await copy.feed(text, { signal });
        return copy.position - before;
      } finally {
        await copy.close();
      }
    });
  }

  /** The newer name of measureInputUsage(). */
  async measureContextUsage(input: Prompt, options?: PromptOptions): Promise<number> {
    return this.measureInputUsage(input, options);
  }

  /** A second conversation that begins as this one is when its turn comes. */
  async clone({ signal }: CallOptions = {}): Promise<LanguageModel> {
    return this.#inTurn([signal], async () => {
      const copy = new LanguageModel(this.#setting);
      try {
        await copy.#session.restore(await this.#session.snapshot());
        return copy;
      } catch (error) {
        copy.destroy();
        throw error;
      }
    });
  }

  /** Ends what is running, which rejects with AbortError, and gives the memory back. */
  destroy(): void {
    if (this.#destroyed.signal.aborted) return;
    this.#destroyed.abort(refusal('AbortError', 'the conversation was destroyed'));
    void this.#session.close();
    this.#setting.release();
  }

  /** @internal Called by create(). */
  async begin(messages: readonly PlainMessage[], signal: AbortSignal | undefined): Promise<void> {
    if (messages.length === 0) return;
    const text = this.#setting.render(messages, false);
    await this.#inTurn([signal], async (ends) => this.#session.feed(text, { signal: ends }));
  }

  /** Takes its turn at once, not when the first piece is asked for. */
  #answer(input: Prompt, options: PromptOptions): { pieces: AsyncGenerator<string, void>; leave: () => void } {
    const constraint = toConstraint(options);
    const text = this.#setting.render(toMessages(input, false), true);
    const left = new AbortController();
    const leave = (): void => left.abort(refusal('AbortError', 'nobody reads the answer any more'));
    const started = deferred<Generation>();
    const written = this.#inTurn([options.signal, left.signal], async (signal) => {
      if (constraint) await refuseOthers(constraint);
      await this.#wholly(async () => {
        await this.#session.feed(text, { signal });
        const generation = this.#session.stream({ ...this.#sampling, ...(constraint && { constraint }), signal });
        started.resolve(generation);
        await generation.result; // asked for, so that the next in turn never waits for a reader
      });
    });
    started.promise.catch(() => undefined); // told to whoever reads
    written.catch(started.reject);
    return { pieces: read(started.promise, written, leave), leave };
  }

  get #sampling(): SampleOptions {
    const { sampling, topK, temperature } = this.#setting;
    return { ...sampling, topK, ...(temperature === 0 ? { greedy: true } : { temperature }) };
  }

  /** If the work fails, the conversation is as it was before. */
  async #wholly(work: () => Promise<unknown>): Promise<void> {
    const before = this.#session.position === 0 ? null : await this.#session.snapshot();
    try {
      await work();
    } catch (error) {
      // Where that is refused, the conversation has ended.
      await (before ? this.#session.restore(before) : this.#session.reset()).catch(() => undefined);
      throw error;
    }
  }

  /** After what was asked for before; ends with any of the signals, at once. */
  async #inTurn<T>(
    signals: readonly (AbortSignal | undefined)[],
    work: (signal: AbortSignal) => Promise<T>,
  ): Promise<T> {
    if (this.#destroyed.signal.aborted) throw refusal('InvalidStateError', 'the conversation was destroyed');
    const { signal, unfollow } = joined([this.#destroyed.signal, ...signals]);
    const turn = this.#turn.then(async () => {
      signal.throwIfAborted();
      return work(signal);
    });
    this.#turn = turn.then(unfollow, unfollow);
    return translated(abortable(signal, async () => turn));
  }
}

async function* read(
  started: Promise<Generation>,
  written: Promise<void>,
  leave: () => void,
): AsyncGenerator<string, void, undefined> {
  try {
    for await (const { text } of await started) if (text !== '') yield text;
    await written; // only then it is part of the conversation
  } catch (error) {
    throw translate(error);
  } finally {
    leave();
  }
}

/** AbortSignal.any(), which browsers have only since 2024; `unfollow` lets go of those that may live longer. */
function joined(signals: readonly (AbortSignal | undefined)[]): { signal: AbortSignal; unfollow: () => void } {
  const controller = new AbortController();
  const follows = signals.flatMap((signal) => {
    if (!signal) return [];
    const end = (): void => controller.abort(signal.reason);
    if (signal.aborted) end();
    signal.addEventListener('abort', end);
    return [() => signal.removeEventListener('abort', end)];
  });
  return { signal: controller.signal, unfollow: () => follows.forEach((unfollow) => unfollow()) };
}

function toConstraint({ responseConstraint }: PromptOptions): Constraint | null {
  const given: unknown = responseConstraint; // a caller in plain JavaScript can pass anything
  if (given === undefined) return null;
  if (typeof given !== 'object' || given === null) {
    throw new TypeError('responseConstraint must be a JSON schema or a regular expression');
  }
  return given instanceof RegExp ? { regex: given } : { jsonSchema: given };
}

/** Before anything is read: NotSupportedError for what cannot be compiled. */
async function refuseOthers(constraint: Constraint): Promise<void> {
  const { compile } = await import('../constraints/index.js').catch((error: unknown) => {
    throw TernError.from(error, 'bad-assets', 'ternlm/constraints could not be loaded: ');
  });
  try {
    compile(constraint);
  } catch (error) {
    throw refusal('NotSupportedError', `responseConstraint: ${describe(error)}`);
  }
}

/** Tokens of a text at most. */
function quotaOf({ info }: Model): number {
  const key = Object.keys(info.config).find((each) => each.endsWith('context_length'));
  return key === undefined ? Infinity : Number(info.config[key]);
}
