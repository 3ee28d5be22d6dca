// Conversations in the form that a model was trained on: an entry of its own, ternlm/chat, which model.chat() loads.
// SPDX-License-Identifier: MIT
//
// Messages become one text, as the file's turns say (tokenizer.ternlm.chat.*, models/FORMAT.md) or its template. A model
// keeps the session of its last chat: of a conversation that goes on, only what is new is read. What the model wrote
// stays as it wrote it, whatever tokens the same text would be read as.

import type { Chunk, GenerateResult, Generation } from './generation.js';
import type { Model } from './model.js';
import type { GenerateOptions } from './options.js';
import type { Session } from './session.js';
import { kBytes, newDecoder, type Codec } from '../codec.js';
import { messagesRead } from '../deferred.js';
import { TernError, badOption } from '../errors.js';

export interface Message {
  readonly role: 'system' | 'user' | 'assistant';
  readonly content: string;
}

/** Of a generation: its names of control tokens are always text in messages, and `maxTokens` is of the reply. */
export type ChatOptions = Omit<GenerateOptions, 'control' | 'maxBytes'>;

export interface ChatResult extends GenerateResult {
  /** The reply, to be put behind the messages of the next call. */
  readonly message: Message;
  /** As of the reply itself. */
  readonly dropped: readonly Message[];
}

/** A reply in the making; pulled by whoever reads it, like any generation. */
export class Reply implements AsyncIterable<Chunk>, AsyncDisposable {
  readonly seed: number | bigint;
  /** Messages that the model did not get, since its context cannot hold them all: the oldest, never the system's. */
  readonly dropped: readonly Message[];
  /** Tokens that were in the model's memory from the call before. */
  readonly reused: number;
  /** Tokens that had to be read. */
  readonly read: number;
  readonly #generation: Generation;
  readonly #accounted: Promise<void>;

  /** Called by chat(). */
  constructor(
    generation: Generation,
    accounted: Promise<void>,
    { dropped, reused, read }: Pick<Reply, 'dropped' | 'reused' | 'read'>,
  ) {
    this.#generation = generation;
    this.#accounted = accounted;
    [this.seed, this.dropped, this.reused, this.read] = [generation.seed, dropped, reused, read];
  }

  [Symbol.asyncIterator](): AsyncGenerator<Chunk, void, undefined> {
    return this.#generation[Symbol.asyncIterator]();
  }

  /** As text; a character always arrives whole. */
  get text(): ReadableStream<string> {
    return this.#generation.text;
  }

  /** The whole reply. Asking for it lets the engine run to the end, whether others read or not. */
  get result(): Promise<ChatResult> {
    return this.#whole(this.#generation.result);
  }

  /** Ends the reply early and returns what there is. */
  stop(): Promise<ChatResult> {
    return this.#whole(this.#generation.stop());
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#generation[Symbol.asyncDispose]();
  }

  #whole(result: Promise<GenerateResult>): Promise<ChatResult> {
    const whole = async (): Promise<ChatResult> => {
      const each = await result;
      await this.#accounted; // then the next call goes on from here
      return { ...each, message: { role: 'assistant', content: each.text }, dropped: this.dropped };
    };
    const promise = whole();
    promise.catch(() => undefined); // whoever asks for it gets the error; nobody has to
    return promise;
  }
}

/** A stretch of a conversation, and the tokens that the model has for it. */
interface Stretch {
  readonly text: string;
  /** The name of the token that ends the text, if one does. */
  readonly end: string;
  readonly tokens: Uint32Array;
}

/** The session of a chat, and what it has read. */
interface Memory {
  readonly session: Session;
  stretches: readonly Stretch[];
  /** The tokens in the session; some of the last stretches may be missing. */
  tokens: Uint32Array;
  /** Exchanges that were dropped from this conversation. */
  dropped: number;
  busy: boolean;
}

const memories = new WeakMap<Model, Memory>();
const formats = new WeakMap<Model, Promise<Format>>();

/**
 * What model.chat() does.
 *   messages  the whole conversation: maybe the system's, then the user's and the assistant's in turn; the last is the user's
 * TernError: `bad-option` for messages that are none, that the template refuses, or whose last exchange alone is longer
 * than the context; `unsupported` for a model that was not made to chat; `bad-file` for a broken template. The model can
 * be used as before.
 */
export async function chat(model: Model, messages: readonly Message[], options: ChatOptions = {}): Promise<Reply> {
  const given = checkedMessages(messages);
  const { signal, maxTokens } = options;
  if ('control' in options)
    throw new TernError('bad-option', 'control: the names of control tokens in messages are text');
  signal?.throwIfAborted();
  const format = await formatOf(model);
  const reader = new Reader(format, model);
  if (memories.get(model)?.busy) await messagesRead(); // a reply that has just ended is still being accounted for
  const kept = memories.get(model);
  const before = kept && !kept.busy ? kept : null;
  const room = Number(model.info.config['context_length'] ?? Infinity) - 1;
  const conversation = fit(reader, given, before, room, maxTokens ?? 1024);
  const memory = before ?? newMemory(model);
  if (!kept) memories.set(model, memory);
  return answer(model, reader, memory, conversation, options);
}

function newMemory(model: Model): Memory {
  return { session: model.session(), stretches: [], tokens: new Uint32Array(0), dropped: 0, busy: false };
}

/** Sends the conversation to the session, and keeps account of what is in it. */
function answer(
  model: Model,
  reader: Reader,
  memory: Memory,
  { stretches, dropped, exchanges }: Conversation,
  options: ChatOptions,
): Reply {
  const { session } = memory;
  const all = joined(stretches);
  const reused = commonLength(all, memory.tokens);
  // Of an edited conversation, or a reply that is asked for again, what comes before stays.
  const rewound = reused < memory.tokens.length ? session.rewind(reused) : Promise.resolve();
  const isSound = rewound.then(
    () => true,
    () => false,
  );
  memory.busy = true;
  let generation: Generation;
  try {
    generation = session.stream(options, all.subarray(reused));
  } catch (error) {
    memory.busy = false;
    [memory.tokens, memory.stretches] = [all.subarray(0, reused), reused === 0 ? [] : memory.stretches];
    throw error;
  }
  const accounted = generation.ended.then(async () => {
    const result = await generation.result.catch(() => null);
    const { written } = generation;
    const isKnown = (await isSound) && (result !== null || options.signal?.aborted === true);
    memory.busy = false;
    if (!isKnown) return discard(model, memory);
    memory.dropped = exchanges;
    memory.stretches =
      written.length === 0 ? stretches : [...stretches, reader.stretchOf(written, result?.finish === 'end-of-text')];
    const whole = joined(memory.stretches);
    const { position } = session; // after an abort there may be less of the messages than was sent
    memory.tokens = whole.subarray(0, position);
    const isWrong = position > whole.length || (written.length > 0 && position < whole.length);
    if (isWrong || memories.get(model) !== memory) discard(model, memory);
  });
  return new Reply(generation, accounted, { dropped, reused, read: all.length - reused });
}

/** The session of a chat that failed, or of one beside another, is not kept. */
function discard(model: Model, memory: Memory): void {
  if (memories.get(model) === memory) memories.delete(model);
  memory.session.close().catch(() => undefined);
}

// ---- what fits into the context ----

interface Conversation {
  readonly stretches: readonly Stretch[];
  readonly dropped: readonly Message[];
  /** How many exchanges those are. */
  readonly exchanges: number;
}

/** `room`: tokens that the model can hold. */
function fit(
  reader: Reader,
  messages: readonly Message[],
  memory: Memory | null,
  room: number,
  reply: number,
): Conversation {
  const { system, exchanges } = parted(messages);
  const make = (count: number): Conversation => ({
    stretches: reader.read([...system, ...exchanges.slice(count).flat()], memory?.stretches ?? []),
    dropped: exchanges.slice(0, count).flat(),
    exchanges: count,
  });
  const length = ({ stretches }: Conversation): number => stretches.reduce((sum, { tokens }) => sum + tokens.length, 0);
  const enough = room - Math.min(reply, Math.floor(room / 4)); // the reply needs some of it, too
  const whole = make(0);
  if (length(whole) <= enough) return whole;
  // What was dropped before stays dropped: then the model still has what comes after it.
  if (memory && memory.dropped > 0 && memory.dropped < exchanges.length) {
    const again = make(memory.dropped);
    if (again.stretches.length > 1 && length(again) <= enough) return again;
  }
  // Not one exchange at a time: each time something goes, what stays is read anew.
  for (let count = 1; count < exchanges.length; count++) {
    const rest = make(count);
    if (length(rest) <= room / 2 || (count === exchanges.length - 1 && length(rest) < room)) return rest;
  }
  const last = make(exchanges.length - 1);
  if (length(last) < room) return last;
  throw new TernError(
    'bad-option',
    `messages: the system's and the last one are ${length(last)} tokens; expected fewer than ${room}, what the context of the model holds`,
  );
}

/** An exchange is what the user says, and what comes before he speaks again. */
function parted(messages: readonly Message[]): { system: Message[]; exchanges: Message[][] } {
  const first = messages.findIndex(({ role }) => role !== 'system');
  const exchanges: Message[][] = [];
  for (const message of messages.slice(first)) {
    const isMore = message.role !== 'user' || exchanges.at(-1)?.every(({ role }) => role !== 'user');
    if (isMore && exchanges.length > 0) exchanges.at(-1)?.push(message);
    else exchanges.push([message]);
  }
  return { system: messages.slice(0, first), exchanges };
}

function checkedMessages(messages: unknown): readonly Message[] {
  if (!Array.isArray(messages) || messages.length === 0)
    throw badOption('messages', 'a list with a message at least', messages);
  return messages.map((message: unknown, i): Message => {
    const name = `messages[${i}]`;
    if (typeof message !== 'object' || message === null)
      throw badOption(name, 'an object with role and content', message);
    const { role, content }: { role?: unknown; content?: unknown } = message;
    if (role !== 'system' && role !== 'user' && role !== 'assistant') {
      throw badOption(`${name}.role`, "'system', 'user' or 'assistant'", role);
    }
    if (typeof content !== 'string') throw badOption(`${name}.content`, 'a string', content);
    if (i === messages.length - 1 && role !== 'user')
      throw badOption(`${name}.role`, "'user', since it is the last", role);
    return { role, content };
  });
}

// ---- from messages to a text ----

/** The conversation as one text, which the reply goes on with. */
type Format = (messages: readonly Message[]) => string;

function formatOf(model: Model): Promise<Format> {
  const found = formats.get(model) ?? newFormat(model);
  formats.set(model, found);
  found.catch(() => formats.delete(model)); // what could not be loaded may be there another time
  return found;
}

const kTurns = 'tokenizer.ternlm.chat.';

async function newFormat({ info: { metadata, vocabulary }, codec }: Model): Promise<Format> {
  const template = metadata['tokenizer.chat_template'];
  if (metadata[`${kTurns}user`] !== undefined) return turnsOf(metadata);
  if (template === undefined) {
    const what = codec === kBytes ? 'a model of bytes that continues texts' : 'its file has no chat template';
    throw new TernError(
      'unsupported',
      `the model was not made to chat (${what}): expected tokenizer.chat_template; use stream() or generate()`,
    );
  }
  const { templateOf } = await import('./chat-template.js').catch((error: unknown) => {
    throw TernError.from(error, 'bad-assets', 'what reads chat templates could not be loaded: ');
  });
  const nameOf = (token: number): string => [...(codec.controls ?? [])].find(([, id]) => id === token)?.[0] ?? '';
  return templateOf(template, { bos_token: nameOf(vocabulary.bos), eos_token: nameOf(vocabulary.eos) });
}

/** Of each turn its text in the place of {}. */
function turnsOf(metadata: Readonly<Record<string, string>>): Format {
  const turn = (name: string): string => {
    const text = metadata[kTurns + name];
    if (text !== undefined) return text;
    throw new TernError('bad-file', `expected the key ${kTurns}${name} beside ${kTurns}user, found none`);
  };
  const turns = { system: turn('system'), user: turn('user'), assistant: turn('assistant') };
  const reply = turn('reply');
  return (messages) =>
    messages.map(({ role, content }) => turns[role].replace('{}', () => content.trim())).join('') + reply;
}

// ---- from a text to tokens ----

/** Inside of the names of control tokens that a message spells: Unicode will never have a character here. */
const kMark = '\u{fdd0}';

class Reader {
  readonly #format: Format;
  readonly #codec: Codec;
  readonly #bos: string;
  readonly #names: RegExp | null; // of control tokens, the longest first

  constructor(format: Format, { codec, info: { vocabulary } }: Model) {
    this.#format = format;
    this.#codec = codec;
    const names = [...(codec.controls ?? [])];
    this.#bos = names.find(([, token]) => token === vocabulary.bos)?.[0] ?? '';
    const longestFirst = names.map(([name]) => name).sort((a, b) => b.length - a.length);
    const escaped = longestFirst.map((name) => name.replace(/[\\^$.*+?()[\]{}|/-]/g, String.raw`\$&`));
    this.#names = names.length === 0 ? null : new RegExp(escaped.join('|'), 'gu');
  }

  /** The conversation in stretches, those first that `known` has already. */
  read(messages: readonly Message[], known: readonly Stretch[]): Stretch[] {
    let rest = this.#format(messages.map(({ role, content }) => ({ role, content: this.#asText(content) })));
    if (this.#bos !== '' && rest.startsWith(this.#bos)) rest = rest.slice(this.#bos.length); // every session begins with it
    const stretches: Stretch[] = [];
    for (const stretch of known) {
      const found = this.#begins(rest, stretch);
      if (found === null) break;
      stretches.push(stretch);
      rest = rest.slice(found.length);
    }
    if (rest !== '' || stretches.length === 0) {
      stretches.push({ text: rest, end: '', tokens: this.#tokens(rest, stretches.length === 0) });
    }
    return stretches;
  }

  /** What the model wrote, as a message has it. `isWhole`: it has come to its end. */
  stretchOf(tokens: Uint32Array, isWhole: boolean): Stretch {
    const decoder = newDecoder(this.#codec, new Uint32Array(0), false);
    const text = this.#asText(decoder.push(tokens).text + decoder.finish(!isWhole));
    const end = [...(this.#codec.controls ?? [])].find(([, token]) => token === tokens.at(-1))?.[0] ?? '';
    return { text, end, tokens };
  }

  /** The beginning of `rest` that is this stretch. Templates strip what was written: then a control token must follow. */
  #begins(rest: string, { text, end }: Stretch): string | null {
    if (rest.startsWith(text + end)) return text + end;
    const stripped = [text.trimEnd() + end, text.trim() + end];
    return stripped.find((each) => rest.startsWith(each) && (end !== '' || this.#isAt(rest, each.length))) ?? null;
  }

  #isAt(text: string, at: number): boolean {
    return this.#names !== null && text.slice(at).search(this.#names) === 0;
  }

  #asText(content: string): string {
    const plain = content.replaceAll(kMark, '');
    if (!this.#names) return plain;
    return plain.replace(this.#names, (name) => `${name.slice(0, -1)}${kMark}${name.slice(-1)}`);
  }

  /** `begins`: nothing comes before it. Names of control tokens are those tokens; behind them a text begins anew. */
  #tokens(text: string, begins: boolean): Uint32Array {
    const { controls } = this.#codec;
    const parts: Uint32Array[] = [];
    let at = 0;
    const addText = (end: number): void => {
      const bytes = new TextEncoder().encode(text.slice(at, end).replaceAll(kMark, ''));
      if (bytes.length > 0) parts.push(this.#codec.encode(bytes, { control: false, begins: begins || at > 0 }));
    };
    for (const { 0: name, index } of this.#names ? text.matchAll(this.#names) : []) {
      addText(index);
      parts.push(Uint32Array.of(controls?.get(name) ?? 0));
      at = index + name.length;
    }
    addText(text.length);
    return joined(parts.map((tokens) => ({ tokens })));
  }
}

function joined(stretches: readonly Pick<Stretch, 'tokens'>[]): Uint32Array<ArrayBuffer> {
  const whole = new Uint32Array(stretches.reduce((sum, { tokens }) => sum + tokens.length, 0));
  let at = 0;
  for (const { tokens } of stretches) {
    whole.set(tokens, at);
    at += tokens.length;
  }
  return whole;
}

function commonLength(a: Uint32Array, b: Uint32Array): number {
  const length = Math.min(a.length, b.length);
  for (let i = 0; i < length; i++) if (a[i] !== b[i]) return i;
  return length;
}
