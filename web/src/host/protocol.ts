// What the page can ask of the half that owns the engine. Every request has a number and gets exactly one answer.
// SPDX-License-Identifier: MIT

import type { ErrorData } from '../errors.js';
import type {
  EngineInfo,
  FileInfo,
  Finish,
  HelperStart,
  KernelsReport,
  Pushed,
  Sampling,
  Scored,
  Threads,
  ThreadsInfo,
  Written,
} from '../engine/types.js';

type Bytes = Uint8Array<ArrayBuffer>;
type Tokens = Uint32Array<ArrayBuffer>;

/** Of each kind of request: what it says, and what its answer says. */
interface Calls {
  /** Whether there is anybody. */
  hello: [asked: object, answered: object];
  /** Starts the engine. `wasmFolder`: where the .wasm files are, if moved; `integrity`: SHA-256 of the file, if known. */
  start: [
    { readonly wasmFolder: string | null; readonly threads: Threads; readonly integrity: string | null },
    { readonly engine: EngineInfo },
  ];
  /** That the workers which `start` wants are at work; `failure`: or why there are none. */
  helpers: [{ readonly failure: string }, object];
  probe: [object, { readonly report: KernelsReport; readonly engine: EngineInfo }];
  /** More of the model; answers the size of the whole, 0 while unknown. */
  push: [{ readonly bytes: Bytes; readonly of: Pushed }, { readonly expected: number }];
  /** The file is complete. `tokenizer`: the tokenizer.json in it; empty if there is none. */
  finish: [
    object,
    {
      readonly file: FileInfo;
      readonly tokenizer: string;
      readonly engine: EngineInfo;
      readonly threads: ThreadsInfo;
    },
  ];
  /** `memory`: of a session that can go back, the bytes that states to go back to may take; null: it cannot. */
  open: [{ readonly session: number; readonly memory: number | null }, object];
  /** Ends the session; what still waits there is answered with `closed`. */
  shut: [{ readonly session: number }, object];

  /** What `save` gives, at once: in the middle of a generation, after the tokens that it has written. */
  peek: [InSession, { readonly bytes: Bytes }];

  // Work on a session, done in the order in which it was asked for.
  reset: [InSession, object];
  save: [InSession, { readonly bytes: Bytes }];
  /** Opens another session, with the same text. */
  fork: [InSession & { readonly to: number }, object];
  rewind: [InSession & { readonly to: number }, object];
  restore: [InSession & { readonly bytes: Bytes }, object];
  /** The logits of the next token, Q16.16, of a vocabulary of so many. */
  next: [InSession & { readonly vocabulary: number }, { readonly logits: Int32Array<ArrayBuffer> }];
  /** `top`: how many of the most likely tokens to name; `credit` tokens far until more is allowed. */
  score: [InSession & { readonly tokens: Tokens; readonly top: number; readonly credit: number }, object];
  feed: [InSession & { readonly tokens: Tokens; readonly traced: boolean }, { readonly boundaries: Bytes | null }];
  /** Codes tokens that follow the text, and finds them again. The text begins anew where its context is full. */
  encode: [InSession & { readonly tokens: Tokens }, { readonly bytes: Bytes }];
  decode: [InSession & { readonly bytes: Bytes; readonly count: number }, { readonly tokens: Tokens }];
  /** Feeds the prompt, if there is one, and goes on from there, `credit` tokens far until more is allowed; not at all for 0. */
  generate: [
    InSession & {
      readonly prompt: Tokens | null;
      readonly sampling: Sampling;
      readonly maxTokens: number;
      /** A token after which it is over, too. */
      readonly turnEnd: number | null;
      readonly traced: boolean;
      /** With the logits of each token, of a vocabulary of so many; 0: without. */
      readonly logits: number;
      readonly credit: number;
      /** The last tokens of the text, if a generation goes on that wrote them. */
      readonly drawn: Tokens;
    },
    { readonly finish: Finish },
  ];
}

interface InSession {
  readonly session: number;
}

export type Kind = keyof Calls;
export type Call = { [K in Kind]: { readonly kind: K } & Calls[K][0] }[Kind];
export type Answer = { [K in Kind]: { readonly kind: K } & Calls[K][1] }[Kind];
export type CallOf<K extends Kind> = Call & { readonly kind: K };
export type AnswerOf<K extends Kind> = Extract<Answer, { readonly kind: K }>;

/** Work on one session. */
export type Work = Extract<Exclude<Call, { kind: 'open' | 'shut' | 'peek' }>, InSession>;

/** What comes before the answer: of `start` the helpers it wants, of work that writes or scores what it has come to. */
export type Part =
  | { readonly kind: 'helpers'; readonly starts: readonly HelperStart[] }
  /** `before`: the last tokens before the output, or before those that are scored. */
  | { readonly kind: 'prompt'; readonly before: Tokens; readonly boundaries: Bytes | null }
  | { readonly kind: 'written'; readonly written: Written }
  | ({ readonly kind: 'scored' } & Scored);

/** Page to engine. Whoever asked may still allow the request more output, or call it off: then, too, it is answered. */
export type ToHost =
  | { readonly type: 'ask'; readonly id: number; readonly call: Call }
  | { readonly type: 'allow'; readonly id: number; readonly credit: number; readonly rules?: Tokens | null }
  | { readonly type: 'cancel'; readonly id: number };

/** Engine to page. `position`: how long the session's text is now; null where the request is not about a session. */
export type FromHost =
  | { readonly type: 'part'; readonly id: number; readonly part: Part }
  | { readonly type: 'answer'; readonly id: number; readonly position: number | null; readonly answer: Answer }
  | { readonly type: 'error'; readonly id: number; readonly position: number | null; readonly error: ErrorData };

export type SendToHost = (message: ToHost, transfer: Transferable[]) => void;
export type SendToPage = (message: FromHost, transfer: Transferable[]) => void;

/** What a message can give away instead of copying it. */
export function buffersOf(value: Call | Answer | Part): Transferable[] {
  const { written, ...rest }: Partial<Record<string, unknown>> = { ...value };
  const nested: unknown[] = Object.values(written ?? {});
  return [...Object.values(rest), ...nested].flatMap((each) =>
    ArrayBuffer.isView(each) && each.buffer instanceof ArrayBuffer ? [each.buffer] : [],
  );
}

export function unreachable(value: never): never {
  throw new Error(`unexpected message ${JSON.stringify(value)}`);
}
