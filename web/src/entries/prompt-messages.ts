// The messages of the Prompt API, checked, and its errors by their names.
// SPDX-License-Identifier: MIT

import { isOurs, type TernErrorCode } from '../errors.js';

export type Role = 'system' | 'user' | 'assistant';

export interface MessagePart {
  /** Only 'text' can be had. */
  readonly type: string;
  readonly value: unknown;
}

export interface Message {
  readonly role: Role;
  readonly content: string | readonly MessagePart[];
  /** Of a last message of the assistant: the answer begins with it. */
  readonly prefix?: boolean;
}

/** A string is a message of the user. */
export type Prompt = string | readonly Message[];

/** A message whose content is one text. */
export interface PlainMessage {
  readonly role: Role;
  readonly text: string;
  readonly prefix: boolean;
}

/** As the browser's interface names what went wrong. */
export function refusal(name: string, message: string): DOMException {
  return new DOMException(message, name);
}

const kNames: Partial<Record<TernErrorCode, string>> = {
  unsupported: 'NotSupportedError',
  http: 'NetworkError',
  network: 'NetworkError',
  'not-the-file': 'NetworkError',
  incomplete: 'NetworkError',
  'bad-assets': 'NetworkError',
  'bad-state': 'QuotaExceededError', // of a session that is used as here, only a context that is full
  closed: 'InvalidStateError',
};

/** What the work gives; an error of the package as the DOMException that fits, with the package's as its `cause`. */
export async function translated<T>(work: Promise<T>): Promise<T> {
  try {
    return await work;
  } catch (error) {
    throw translate(error);
  }
}

export function translate(error: unknown): unknown {
  if (!isOurs(error)) return error;
  if (error.code === 'bad-option') return new TypeError(error.message, { cause: error });
  const found = Object.entries(kNames).find(([code]) => code === error.code);
  const exception = refusal(found?.[1] ?? 'OperationError', error.message);
  Object.defineProperty(exception, 'cause', { value: error, configurable: true });
  return exception;
}

/** Checked as the browser does; `begins`: nothing comes before them, so that the first may be the system's. */
export function toMessages(prompt: unknown, begins: boolean): readonly PlainMessage[] {
  if (typeof prompt === 'string') return [{ role: 'user', text: prompt, prefix: false }];
  if (!Array.isArray(prompt)) throw new TypeError('a prompt must be a string or a list of messages');
  const messages: readonly unknown[] = prompt;
  return messages.map((message, at) => toMessage(message, at, begins, at === messages.length - 1));
}

function toMessage(message: unknown, at: number, begins: boolean, isLast: boolean): PlainMessage {
  const { role, content, prefix = false } = fieldsOf(message);
  if (!isRole(role)) throw new TypeError(`the role of message ${at} must be system, user or assistant`);
  if (role === 'system' && !begins) {
    throw refusal(
      'NotSupportedError',
      'a message of the system can only begin a conversation: put it in initialPrompts',
    );
  }
  if (role === 'system' && at > 0) throw new TypeError('a message of the system can only be the first');
  if (prefix === true && (begins || role !== 'assistant' || !isLast)) {
    throw refusal('SyntaxError', 'only the last message of a prompt, if it is the assistant’s, can be a prefix');
  }
  return { role, text: toText(content, at), prefix: prefix === true };
}

function toText(content: unknown, at: number): string {
  if (typeof content === 'string') return content;
  if (!Array.isArray(content)) throw new TypeError(`the content of message ${at} must be a string or a list of parts`);
  const parts: readonly unknown[] = content;
  return parts
    .map((part) => {
      const { type, value } = fieldsOf(part);
      if (type !== 'text') throw refusal('NotSupportedError', `content can only be text, not ${String(type)}`);
      if (typeof value !== 'string') throw new TypeError(`the value of a text in message ${at} must be a string`);
      return value;
    })
    .join('');
}

function fieldsOf(value: unknown): Partial<Record<string, unknown>> {
  return typeof value === 'object' && value !== null ? { ...value } : {};
}

function isRole(role: unknown): role is Role {
  return role === 'system' || role === 'user' || role === 'assistant';
}
