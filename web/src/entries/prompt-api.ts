// A model behind the interface of the browser's Prompt API, for programs written for that: 'ternlm/prompt-api'.
// SPDX-License-Identifier: MIT
//
// What differs from a browser's own: a conversation is never shortened to make room (QuotaExceededError instead), and a
// prompt that is aborted leaves no trace in it.

import type { Model } from '../api/model.js';
import { checked, type SampleOptions } from '../api/options.js';
import { abortable } from '../deferred.js';
import { badOption } from '../errors.js';
import { refusal, toMessages, translated, type Message } from './prompt-messages.js';
import { LanguageModel, type CallOptions, type Render } from './prompt-session.js';
import { SharedModel, type ModelLoader } from './shared-model.js';

export type { Message, MessagePart, PlainMessage, Prompt, Role } from './prompt-messages.js';
export type { CallOptions, LanguageModel, PromptOptions, Render } from './prompt-session.js';
export type { ModelLoader } from './shared-model.js';

export type Availability = 'unavailable' | 'downloadable' | 'downloading' | 'available';

export interface PromptApiOptions {
  /** Default: the messages' contents one after the other, for a model that was not trained on conversations. */
  render?: Render;
  /** Of every answer: its length, for one. Temperature and topK are the defaults of a conversation. */
  sampling?: SampleOptions;
}

/** Content that a program is going to use. */
export interface ExpectedContent {
  readonly type: string;
  readonly languages?: readonly string[];
}

/** What availability() and create() are asked for. */
export interface CoreOptions {
  /** 1 or more; above `maxTopK` it is that. */
  topK?: number;
  /** 0 (always the most likely) or more; above `maxTemperature` it is that. */
  temperature?: number;
  /** Only text can be had. */
  expectedInputs?: readonly ExpectedContent[];
  expectedOutputs?: readonly ExpectedContent[];
  /** Cannot be had. */
  tools?: readonly unknown[];
}

export interface CreateOptions extends CoreOptions, CallOptions {
  /** Is given a target of `downloadprogress` events. */
  monitor?: (target: EventTarget) => void;
  /** What the conversation begins with; a message of the system can be the first. */
  initialPrompts?: readonly Message[];
}

export interface LanguageModelParams {
  readonly defaultTopK: number;
  readonly maxTopK: number;
  readonly defaultTemperature: number;
  readonly maxTemperature: number;
}

/** A `downloadprogress` event: `loaded` goes from 0 to 1. */
export class DownloadProgress extends Event {
  readonly lengthComputable = true;
  readonly total = 1;
  readonly loaded: number;

  constructor(loaded: number) {
    super('downloadprogress');
    this.loaded = loaded;
  }
}

const kMaxTemperature = 100;

/**
 * What stands for the global `LanguageModel`. A loader, `(options) => load(stories, options)`, is called by the first
 * create(), and its model closed when the last conversation is destroyed. A model that was loaded already stays open.
 */
export function promptApi(model: Model | ModelLoader, options?: PromptApiOptions): LanguageModelFactory {
  return new LanguageModelFactory(model, options);
}

/** See promptApi(). */
export class LanguageModelFactory {
  readonly #shared: SharedModel;
  readonly #render: Render;
  readonly #sampling: SampleOptions;

  /** Called by promptApi(). */
  constructor(model: Model | ModelLoader, options?: PromptApiOptions) {
    const given: unknown = model; // a caller in plain JavaScript can pass anything
    if (!(given instanceof Object)) throw badOption('model', 'a model, or a function that loads one', given);
    const { render, sampling } = checked('', options, 'render sampling');
    this.#shared = new SharedModel(model);
    this.#render = render ?? ((messages) => messages.map(({ text }) => text).join(''));
    this.#sampling = sampling ?? {};
  }

  /** What create() with these options would have to do. */
  async availability(options: CoreOptions = {}): Promise<Availability> {
    if (whyNot(options) !== '') return 'unavailable';
    const { model, isLoading } = this.#shared;
    return model ? 'available' : isLoading ? 'downloading' : 'downloadable';
  }

  /** Null while no model is loaded: what it allows is in its file. */
  async params(): Promise<LanguageModelParams | null> {
    const { model } = this.#shared;
    return model && paramsOf(model, this.#sampling);
  }

  /**
   * Begins a conversation. Rejects with the signal's reason; NotSupportedError, TypeError or RangeError for options; and
   * NetworkError, OperationError or NotSupportedError where the model cannot be loaded.
   */
  async create(options: CreateOptions = {}): Promise<LanguageModel> {
    const { signal, monitor, initialPrompts = [] } = options;
    signal?.throwIfAborted();
    const why = whyNot(options);
    if (why !== '') throw refusal('NotSupportedError', why);
    const [topK, temperature] = [inRange('topK', options.topK, 1), inRange('temperature', options.temperature, 0)];
    const messages = toMessages(initialPrompts, true);
    const release = (): void => this.#shared.release();
    return translated(
      abortable(signal, async (scope) => {
        this.#shared.hold(); // while it is loaded; a conversation holds it for itself
        scope.add(release);
        const model = await this.#load(monitor);
        const { defaultTopK, maxTopK, defaultTemperature, maxTemperature } = paramsOf(model, this.#sampling);
        const conversation = new LanguageModel({
          model,
          render: this.#render,
          sampling: this.#sampling,
          topK: Math.min(topK ?? defaultTopK, maxTopK),
          temperature: Math.min(temperature ?? defaultTemperature, maxTemperature),
          hold: () => this.#shared.hold(),
          release,
        });
        scope.add(() => conversation.destroy());
        await conversation.begin(messages, signal);
        release();
        return conversation;
      }),
    );
  }

  async #load(monitor: CreateOptions['monitor']): Promise<Model> {
    const target = new EventTarget();
    monitor?.(target);
    let last = 0;
    const tell = (loaded: number): void => {
      if (loaded > last || loaded === 0) target.dispatchEvent(new DownloadProgress(loaded));
      last = loaded;
    };
    tell(0);
    const model = await this.#shared.load(tell);
    if (last < 1) tell(1);
    return model;
  }
}

/** Empty if what is asked for can be had. */
function whyNot({ expectedInputs = [], expectedOutputs = [], tools = [] }: CoreOptions): string {
  const other = [...expectedInputs, ...expectedOutputs].find(({ type }) => type !== 'text');
  if (other) return `content can only be text, not ${other.type}`;
  return tools.length > 0 ? 'the models here use no tools' : '';
}

function inRange(name: string, value: unknown, least: number): number | undefined {
  if (value === undefined) return undefined;
  if (typeof value !== 'number' || !Number.isFinite(value)) throw new TypeError(`${name} must be a number`);
  if (value < least) throw new RangeError(`${name} must be ${least} or more, found ${value}`);
  return name === 'topK' ? Math.floor(value) : value;
}

function paramsOf({ info }: Model, { topK, temperature }: SampleOptions): LanguageModelParams {
  const { size } = info.vocabulary;
  return {
    defaultTopK: topK ?? size,
    maxTopK: size,
    defaultTemperature: temperature ?? 1,
    maxTemperature: kMaxTemperature,
  };
}
