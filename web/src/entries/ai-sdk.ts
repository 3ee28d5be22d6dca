// A loaded model as one of the Vercel AI SDK: ternlm/ai-sdk, for generateText, streamText and their structured output.
// SPDX-License-Identifier: MIT
//
// Written against the shape of LanguageModelV4 (@ai-sdk/provider 4), which it does not need at run time: a test holds it to
// the types, and runs it with the package `ai`.

import type { Message as ChatMessage, ChatOptions, Reply } from '../api/chat.js';
import type { GenerateResult, Generation } from '../api/generation.js';
import type { Model } from '../api/model.js';
import type { GenerateOptions } from '../api/options.js';
import { TernError } from '../errors.js';

export interface Part {
  readonly type: string;
  readonly text?: string;
}

/** A message as the SDK passes it on. */
export interface Message {
  readonly role: 'system' | 'user' | 'assistant' | 'tool';
  readonly content: string | readonly Part[];
}

/** What the SDK asks for; headers and the like are not for a model that is here already. */
export interface CallSettings {
  readonly prompt: readonly Message[];
  readonly maxOutputTokens?: number | undefined;
  readonly temperature?: number | undefined;
  readonly stopSequences?: readonly string[] | undefined;
  readonly topP?: number | undefined;
  readonly topK?: number | undefined;
  readonly presencePenalty?: number | undefined;
  readonly frequencyPenalty?: number | undefined;
  readonly responseFormat?:
    { readonly type: 'text' } | { readonly type: 'json'; readonly schema?: unknown } | undefined;
  readonly seed?: number | undefined;
  readonly tools?: readonly unknown[] | undefined;
  readonly abortSignal?: AbortSignal | undefined;
  /** `ternlm`: further options of a generation: `constraint`, `minP`, `repetitionPenalty`, `utf8`. */
  readonly providerOptions?: { readonly [provider: string]: { readonly [name: string]: unknown } } | undefined;
}

export type Warning =
  | { type: 'unsupported'; feature: string; details?: string }
  /** Messages that the model did not get, since its context cannot hold them all. */
  | { type: 'other'; message: string };

export interface FinishReason {
  unified: 'stop' | 'length' | 'interrupted';
  raw: string;
}

/** Tokens of the prompt are told of chats: those that were read, and those that the model had from the call before. */
export interface Usage {
  inputTokens: {
    total: number | undefined;
    noCache: number | undefined;
    cacheRead: number | undefined;
    cacheWrite: undefined;
  };
  outputTokens: { total: number; text: number; reasoning: undefined };
}

export type Metadata = { ternlm: { seed: string; tokensPerSecond: number } };

export type StreamPart =
  | { type: 'stream-start'; warnings: Warning[] }
  | { type: 'response-metadata'; modelId: string }
  | { type: 'text-start' | 'text-end'; id: string }
  | { type: 'text-delta'; id: string; delta: string }
  | { type: 'finish'; finishReason: FinishReason; usage: Usage; providerMetadata: Metadata }
  | { type: 'error'; error: unknown };

export interface Answer {
  content: { type: 'text'; text: string }[];
  finishReason: FinishReason;
  usage: Usage;
  providerMetadata: Metadata;
  response: { modelId: string };
  warnings: Warning[];
}

export interface LanguageModel {
  readonly specificationVersion: 'v4';
  readonly provider: 'ternlm';
  readonly modelId: string;
  readonly supportedUrls: Record<string, RegExp[]>;
  doGenerate(settings: CallSettings): Promise<Answer>;
  doStream(settings: CallSettings): Promise<{ stream: ReadableStream<StreamPart> }>;
}

export interface LanguageModelOptions {
  /** What calls say nothing about; the SDK's own settings come before it. */
  readonly defaults?: Omit<GenerateOptions, 'signal' | 'trace' | 'logprobs' | 'control'>;
  /**
   * The text that the model continues. Default: of a model that was made to chat its own form of the messages, as
   * model.chat() has it, which keeps what it has read for the next call; of others the texts of all messages, one after the
   * other, with an empty line in between: a model that has only read stories knows no roles.
   */
  readonly toPrompt?: (messages: readonly Message[]) => string;
}

/** What writes an answer: a generation, or the reply of a chat. */
type Writer = AsyncIterable<{ readonly text: string }> & {
  readonly result: Promise<GenerateResult>;
  stop(): Promise<unknown>;
};

/** An answer in the making. */
interface Begun {
  readonly writer: Writer;
  readonly warnings: Warning[];
  /** A constraint is met within the limit: the SDK would take what ends there for a part. */
  readonly isConstrained: boolean;
  readonly inputTokens: Usage['inputTokens'];
}

const kUntold = { total: undefined, noCache: undefined, cacheRead: undefined, cacheWrite: undefined };

/** Calls end with their signal's reason or a TernError; what the model cannot do is told in the answer's warnings. */
export function languageModel(model: Model, { defaults = {}, toPrompt }: LanguageModelOptions = {}): LanguageModel {
  const begin = async (settings: CallSettings): Promise<Begun> => {
    const { options, warnings } = toOptions(settings, defaults);
    const isConstrained = options.constraint !== undefined;
    if (toPrompt === undefined && model.isMadeToChat) {
      const writer = await model.chat(settings.prompt.flatMap(toMessage), toChatOptions(options));
      if (settings.prompt.some(({ role }) => role === 'tool'))
        warnings.push(unsupported('messages of tools', kLeftOut));
      if (writer.dropped.length > 0) warnings.push({ type: 'other', message: toldOf(writer) });
      const { read: noCache, reused: cacheRead } = writer;
      const inputTokens = { total: noCache + cacheRead, noCache, cacheRead, cacheWrite: undefined };
      return { writer, warnings, isConstrained, inputTokens };
    }
    const writer: Generation = model.stream((toPrompt ?? joined)(settings.prompt), options);
    return { writer, warnings, isConstrained, inputTokens: kUntold };
  };
  const modelId = model.info.name;
  return {
    specificationVersion: 'v4',
    provider: 'ternlm',
    modelId,
    supportedUrls: {},
    async doGenerate(settings) {
      const begun = await begin(settings);
      const result = await begun.writer.result;
      return {
        content: [{ type: 'text', text: result.text }],
        ...endOf(begun, result),
        response: { modelId },
        warnings: begun.warnings,
      };
    },
    async doStream(settings) {
      const begun = await begin(settings);
      return {
        stream: toStream(begun, [
          { type: 'stream-start', warnings: begun.warnings },
          { type: 'response-metadata', modelId },
        ]),
      };
    },
  };
}

/** Pulled as it is read, so that the engine rests when nobody does. */
function toStream(begun: Begun, first: readonly StreamPart[]): ReadableStream<StreamPart> {
  const { writer } = begun;
  const id = 'text';
  async function* parts(): AsyncGenerator<StreamPart, void, undefined> {
    yield* first;
    try {
      yield { type: 'text-start', id };
      for await (const { text } of writer) if (text !== '') yield { type: 'text-delta', id, delta: text };
      yield { type: 'text-end', id };
      yield { type: 'finish', ...endOf(begun, await writer.result) };
    } catch (error) {
      yield { type: 'error', error };
    }
  }
  const reader = parts();
  return new ReadableStream<StreamPart>(
    {
      async pull(controller) {
        const { value, done } = await reader.next();
        if (done) controller.close();
        else controller.enqueue(value);
      },
      async cancel() {
        await writer.stop().catch(() => undefined);
        await reader.return();
      },
    },
    { highWaterMark: 0 },
  );
}

function endOf(
  { isConstrained, inputTokens }: Begun,
  { finish, tokens, from, seed, timings }: GenerateResult,
): Pick<Answer, 'finishReason' | 'usage' | 'providerMetadata'> {
  const isWhole = isConstrained && finish.startsWith('max-');
  const unified =
    isWhole || finish === 'end-of-text' || finish === 'stop' ? 'stop' : finish === 'stopped' ? 'interrupted' : 'length';
  const total = from + tokens.length;
  return {
    finishReason: { unified, raw: finish },
    usage: { inputTokens, outputTokens: { total, text: total, reasoning: undefined } },
    providerMetadata: { ternlm: { seed: String(seed), tokensPerSecond: timings.tokensPerSecond } },
  };
}

function toOptions(
  settings: CallSettings,
  defaults: GenerateOptions,
): { options: GenerateOptions; warnings: Warning[] } {
  const { temperature, topP, topK, seed, maxOutputTokens, stopSequences, responseFormat, abortSignal } = settings;
  const isJson = responseFormat?.type === 'json';
  if (isJson && responseFormat.schema === undefined) {
    throw new TernError('unsupported', 'JSON without a schema: expected a schema, which says what to write');
  }
  const options: GenerateOptions = {
    ...defaults,
    ...settings.providerOptions?.['ternlm'],
    ...(temperature !== undefined && (temperature === 0 ? { greedy: true } : { temperature })),
    ...(topP !== undefined && { topP }),
    ...(topK !== undefined && { topK }),
    ...(seed !== undefined && { seed }),
    ...(maxOutputTokens !== undefined && { maxTokens: maxOutputTokens }),
    ...(stopSequences && stopSequences.length > 0 && { stop: stopSequences }),
    ...(isJson && { constraint: { jsonSchema: responseFormat.schema } }),
    signal: abortSignal,
  };
  const warnings: Warning[] = [];
  const penalty = 'there is repetitionPenalty, in providerOptions.ternlm';
  if (settings.presencePenalty) warnings.push(unsupported('presencePenalty', penalty));
  if (settings.frequencyPenalty) warnings.push(unsupported('frequencyPenalty', penalty));
  if (settings.tools && settings.tools.length > 0)
    warnings.push(unsupported('tools', 'the model is never told of them'));
  if (
    settings.prompt.some(({ content }) => typeof content !== 'string' && content.some(({ type }) => type !== 'text'))
  ) {
    warnings.push(unsupported('parts of messages that are not text', kLeftOut));
  }
  return { options, warnings };
}

const kLeftOut = 'they were left out';

function unsupported(feature: string, details: string): Warning {
  return { type: 'unsupported', feature, details };
}

function toldOf({ dropped }: Reply): string {
  return `the context cannot hold the whole conversation: the oldest ${dropped.length} messages were left out`;
}

/** A limit of a chat is in tokens. */
function toChatOptions({ maxBytes, ...options }: GenerateOptions): ChatOptions {
  if (maxBytes === undefined) return options;
  throw new TernError('bad-option', 'maxBytes: expected maxTokens (maxOutputTokens of the SDK)');
}

function toMessage({ role, content }: Message): ChatMessage[] {
  return role === 'tool' ? [] : [{ role, content: textOf(content) }];
}

function textOf(content: Message['content']): string {
  return typeof content === 'string'
    ? content
    : content.map((part) => (part.type === 'text' ? (part.text ?? '') : '')).join('');
}

function joined(messages: readonly Message[]): string {
  return messages.map(({ content }) => textOf(content)).join('\n\n');
}
