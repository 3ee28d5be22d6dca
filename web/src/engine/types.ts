// What the engine is asked for and what it answers, as plain data that can be sent between threads.
// SPDX-License-Identifier: MIT

/** Which build of the engine runs: all give the same bytes; relaxed SIMD, alone or with threads, is faster where there is it. */
export type Variant = 'simd' | 'relaxed' | 'threads';

export interface EngineInfo {
  readonly variant: Variant;
  /** The kernel in use: the fastest of those that passed their known-answer tests. */
  readonly kernel: string;
  /** Why relaxed SIMD does not run; empty when it does. */
  readonly reason: string;
}

/** How many threads to compute with. 'auto': as many as make the loaded model faster. */
export type Threads = number | 'auto';

export interface ThreadsInfo {
  /** Threads that compute, the engine's own among them. */
  readonly count: number;
  /** Why it is one although more were asked for, or that 'auto' measured it; empty for a number that was asked for. */
  readonly reason: string;
}

/** What a further thread needs: the compiled engine, its memory, and the function of its table to run with a number. */
export interface HelperStart {
  readonly module: WebAssembly.Module;
  readonly memory: WebAssembly.Memory;
  readonly entry: number;
  readonly part: number;
}

/** One form of the matrix product. All that are exact give the same numbers. */
export interface KernelReport {
  readonly name: string;
  /** Whether this machine passes its known-answer test; only then it is ever used. */
  readonly exact: boolean;
  /** Billions of weights per second in a 512 x 512 matrix; null: not measured. */
  readonly gmacPerS: number | null;
  readonly inUse: boolean;
}

/** What the kernels reach on this machine. */
export interface KernelsReport {
  /** The forms in this variant of the engine, in the order in which they would be preferred unmeasured. */
  readonly kernels: readonly KernelReport[];
  /** Many bytes at once by table lookup: its rate with 16 of them, and from how many on it is used (null: never). */
  readonly tables: { readonly gmacPerS: number | null; readonly fromBytes: number | null };
}

/** What the file says about itself, plus sizes in memory. */
export interface FileInfo {
  readonly architecture: string;
  readonly name: string;
  /** Tokens are 0 to size - 1: the bytes, or pieces of text. `bos` begins every text, `eos` may end one. */
  readonly vocabulary: { readonly size: number; readonly bos: number; readonly eos: number };
  /** Stages of chunking in a hierarchical model; 0 for a flat one, which has no chunk boundaries. */
  readonly stages: number;
  readonly parameters: number;
  readonly fileBytes: number;
  /** Weights in memory. */
  readonly packedBytes: number;
  /** State of one conversation, as long as it can get. */
  readonly stateBytes: number;
  /** What each token adds to it, taken some tokens at a time as a text grows; 0 where length costs nothing. */
  readonly stateBytesPerToken: number;
  /** 64 bits over the whole file, as 16 hexadecimal digits. */
  readonly fingerprint: string;
  /** The file carries a checksum of itself, which was right. */
  readonly checked: boolean;
  /** What in the file may make the model worse than it was trained, a sentence each; usually nothing. */
  readonly warnings: readonly string[];
  readonly config: Readonly<Record<string, string>>;
  readonly metadata: Readonly<Record<string, string>>;
}

/** How the next token is drawn: Q16 is 16 bits after the binary point. */
export interface Sampling {
  readonly greedy: boolean;
  readonly temperatureQ16: number;
  readonly topK: number;
  readonly topPQ16: number;
  readonly minPQ16: number;
  readonly repetitionPenaltyQ16: number;
  readonly seed: bigint;
  /** Also bytes that do not continue well-formed UTF-8, where bytes are the tokens. */
  readonly raw: boolean;
}

/** 'stop': the output came to a text that it was to stop at; 'stopped': it was called off. */
export type Finish = 'max-bytes' | 'max-tokens' | 'end-of-text' | 'context-full' | 'stop' | 'stopped';

/** What each of some tokens cost, as the engine has it: words of 32 bits. */
export interface Scored {
  readonly tokens: Uint32Array<ArrayBuffer>;
  /** Of each token four: its bits, Q32.32, the low half first; the entropy there in bits, Q8.24; tokens likelier than it. */
  readonly costs: Uint32Array<ArrayBuffer>;
  /** Of each of the most likely tokens in its place, the likeliest first, two: it, and its probability, Q1.31. */
  readonly top: Uint32Array<ArrayBuffer>;
}

/** A stretch of output. */
export interface Written {
  readonly tokens: Uint32Array<ArrayBuffer>;
  /** A mask for each of them, bit s set where a chunk of stage s begins, if they were asked for. */
  readonly boundaries: Uint8Array<ArrayBuffer> | null;
  /** The logits that they were drawn from, [tokens][vocabulary], if they were asked for. */
  readonly logits?: Int32Array<ArrayBuffer> | null;
}

/** What bytes are of: the file whose checksum was asked for, the model that is made of it, or both in one. */
export type Pushed = 'file' | 'model' | 'both';
