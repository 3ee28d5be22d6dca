// The engine as TypeScript objects: the only file that touches the WebAssembly modules, and the only one with casts.
// SPDX-License-Identifier: MIT

import { TernError, describe, type TernErrorCode } from '../errors.js';
import { clockIsFine, hasSimd, mostThreads, sharedMemory, whyNotRelaxed, whyNotThreads } from './features.js';
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
  Variant,
  Written,
} from './types.js';
import { ownWasm } from './own-wasm.js';
import { fetchWasm } from './wasm-file.js';
import createRelaxed from '../wasm/tern-relaxed.js';
import createSimd, {
  type Conversation,
  type LoadedModel,
  type Loader,
  type MainModule,
  type Sha256,
} from '../wasm/tern-simd.js';
import createThreads from '../wasm/tern-threads.js';

/** Has the workers of further threads made; resolves when all are at work, rejects if one cannot start. */
export type StartHelpers = (starts: readonly HelperStart[]) => Promise<void>;

/** Makes an instance of a module from its compiled form; what Emscripten's generated script exports. */
export type ModuleFactory = (options: {
  instantiateWasm(
    imports: WebAssembly.Imports,
    done: (instance: WebAssembly.Instance, module: WebAssembly.Module) => void,
  ): object;
  wasmMemory?: WebAssembly.Memory;
}) => Promise<unknown>;

// The calls between a `buffer` view and its use must not allocate in the engine, and a slice bounds the shared buffer.
const kSliceBytes = 1 << 16;

/** The engine reads a prompt in tiles of so many tokens. */
export const kTileTokens = 16;

/** A budget that is never used up. */
export const kNoLimit = 2 ** 53;

/** What the engine's probe() returns: name, exact, products per microsecond, in use; products per microsecond, bytes. */
interface ProbeJson {
  levels: [string, boolean, number, boolean][];
  tables: [number, number];
}

const kCodes: readonly TernErrorCode[] = ['bad-file', 'unsupported', 'bad-option', 'bad-state', 'out-of-memory'];

export class Engine {
  readonly #module: MainModule;
  readonly #variant: Omit<EngineInfo, 'kernel'>;
  #wanted: Threads = 1; // more than 1: there are helpers
  #whyOne = ''; // although more threads were asked for

  private constructor(module: MainModule, variant: Omit<EngineInfo, 'kernel'>) {
    this.#module = module;
    this.#variant = variant;
  }

  get info(): EngineInfo {
    return { ...this.#variant, kernel: text(guarded(() => this.#module.kernelLevel())) };
  }

  /**
   * Measures every exact kernel for `rounds` milliseconds and uses the fastest from now on; results stay the same bit for
   * bit. With 0 rounds, or a clock too coarse to measure by, it only reports.
   */
  probe(rounds: number): KernelsReport {
    const json = text(guarded(() => this.#module.probe(clockIsFine() ? rounds : 0)));
    const { levels, tables } = JSON.parse(json) as ProbeJson;
    const toRate = (perMicrosecond: number): number | null => (perMicrosecond > 0 ? perMicrosecond / 1000 : null);
    return {
      kernels: levels.map(([name, exact, rate, inUse]) => ({ name, exact, gmacPerS: toRate(rate), inUse })),
      tables: { gmacPerS: toRate(tables[0]), fromBytes: tables[1] <= kTileTokens ? tables[1] : null },
    };
  }

  /**
   * The fastest variant that this browser runs correctly. `wasmFolder`: where the .wasm files are, if moved.
   * `startHelpers` is called when there can be more threads than this one; they are of no use if another variant runs.
   */
  static async start(wasmFolder: string | null, threads: Threads, startHelpers: StartHelpers): Promise<Engine> {
    let whyOne = whyNotThreads(threads) || (threads === 1 ? '' : whyNotRelaxed());
    if (threads !== 1 && whyOne === '') {
      try {
        const engine = await Engine.#startThreads(wasmFolder, threads, startHelpers);
        if (engine.info.kernel.startsWith('relaxed')) return engine;
        whyOne = 'the known-answer test of the relaxed SIMD kernel failed';
      } catch (error) {
        whyOne = `threads could not be started: ${describe(error)}`; // they are never required
      }
    }
    const engine = await Engine.#startOne(wasmFolder);
    engine.#whyOne = whyOne;
    return engine;
  }

  static async #startOne(wasmFolder: string | null): Promise<Engine> {
    if (!hasSimd()) {
      throw new TernError(
        'unsupported',
        'this browser has no WebAssembly SIMD (Chrome 91, Firefox 89, Safari 16.4 or newer have it)',
      );
    }
    const reason = whyNotRelaxed();
    if (reason !== '') return Engine.startVariant('simd', wasmFolder, reason);
    const engine = await Engine.startVariant('relaxed', wasmFolder, '');
    if (engine.info.kernel.startsWith('relaxed')) return engine;
    return Engine.startVariant('simd', wasmFolder, 'the known-answer test of the relaxed SIMD kernel failed');
  }

  static async startVariant(variant: 'simd' | 'relaxed', wasmFolder: string | null, reason: string): Promise<Engine> {
    const bytes = await wasmOf(variant, wasmFolder);
    return Engine.fromWasm(variant === 'relaxed' ? createRelaxed : createSimd, bytes, variant, reason);
  }

  /** The engine with threads, all of them started. Needs a worker of a page that is cross-origin isolated. */
  static async #startThreads(wasmFolder: string | null, wanted: Threads, startHelpers: StartHelpers): Promise<Engine> {
    const module = await WebAssembly.compile(await wasmOf('threads', wasmFolder));
    const memory = sharedMemory();
    const engine = await Engine.#instantiate(createThreads, module, 'threads', '', memory);
    const starts = Array.from({ length: mostThreads(wanted) - 1 }, (_, i) => {
      const part = i + 1;
      return { module, memory, part, entry: engine.#module.prepareHelper(part) };
    });
    await startHelpers(starts);
    engine.#wanted = wanted;
    engine.#module.setThreads(starts.length + 1);
    return engine;
  }

  /** From the bytes of a module; also how the tests run builds that are not shipped. */
  static async fromWasm(
    factory: ModuleFactory,
    bytes: Uint8Array<ArrayBuffer>,
    variant: Variant,
    reason: string,
  ): Promise<Engine> {
    try {
      return await Engine.#instantiate(factory, await WebAssembly.compile(bytes), variant, reason, null);
    } catch (error) {
      throw new TernError('bad-assets', `the ${variant} engine could not be started: ${describe(error)}`, {
        cause: error,
      });
    }
  }

  static async #instantiate(
    factory: ModuleFactory,
    compiled: WebAssembly.Module,
    variant: Variant,
    reason: string,
    memory: WebAssembly.Memory | null,
  ): Promise<Engine> {
    // instantiateWasm has no way to report a failure, so the failure is raced against the module.
    const module = await new Promise<unknown>((resolve, reject) => {
      factory({
        instantiateWasm(imports, done) {
          WebAssembly.instantiate(compiled, imports).then((instance) => done(instance, compiled), reject);
          return {};
        },
        ...(memory && { wasmMemory: memory }),
      }).then(resolve, reject);
    });
    return new Engine(module as MainModule, { variant, reason });
  }

  /** Decides how many threads compute, now that the model is there to measure; the others may go. */
  chooseThreads(model: EngineModel): ThreadsInfo {
    if (this.#wanted === 1) return { count: 1, reason: this.#whyOne };
    if (this.#wanted !== 'auto') return { count: this.#wanted, reason: '' };
    const most = mostThreads('auto');
    const count = guarded(() => model.chooseThreads(most));
    return { count, reason: `measured: the fastest of 1 to ${most}` };
  }

  /** Size of the module's memory, which grows and never shrinks. */
  get memoryBytes(): number {
    return view(this.#module, 0).buffer.byteLength;
  }

  /** `integrity`: the SHA-256 that the file shall have, or null. */
  newLoader(integrity: string | null): EngineLoader {
    return new EngineLoader(this.#module, integrity);
  }
}

/** Takes a model file in chunks of any size. */
export class EngineLoader {
  readonly #module: MainModule;
  readonly #loader: Loader;
  readonly #integrity: string | null;
  readonly #sha256: Sha256;

  constructor(module: MainModule, integrity: string | null) {
    this.#module = module;
    this.#integrity = integrity;
    this.#sha256 = guarded(() => new module.Sha256());
    this.#loader = guarded(() => new module.Loader());
  }

  /** Returns the size of the whole file, 0 while it is not known. */
  push(bytes: Uint8Array, of: Pushed = 'both'): number {
    return guarded(() => {
      for (let at = 0; at < bytes.length; at += kSliceBytes) {
        const size = put(this.#module, bytes.subarray(at, at + kSliceBytes));
        if (of !== 'model' && this.#integrity !== null) this.#sha256.push(size);
        if (of !== 'file') check(this.#loader.push(size));
      }
      return Number(this.#loader.bytesExpected());
    });
  }

  finish(): EngineModel {
    return guarded(() => {
      const found = text(this.#sha256.hex());
      if (this.#integrity !== null && found !== this.#integrity) {
        throw new TernError(
          'integrity',
          `expected a file with SHA-256 ${this.#integrity}, found ${found}: it was changed or damaged on the way`,
        );
      }
      const model = new this.#module.LoadedModel();
      try {
        check(this.#loader.finish(model));
      } catch (error) {
        model.delete();
        throw error;
      }
      return new EngineModel(this.#module, model);
    });
  }

  close(): void {
    this.#sha256.delete();
    this.#loader.delete();
  }
}

export class EngineModel {
  readonly info: FileInfo;
  readonly #module: MainModule;
  readonly #model: LoadedModel;

  constructor(module: MainModule, model: LoadedModel) {
    this.#module = module;
    this.#model = model;
    const info = model.info();
    this.info = {
      architecture: text(info.architecture),
      name: text(info.name),
      vocabulary: info.vocabulary,
      stages: info.stages,
      parameters: Number(info.parameters),
      fileBytes: Number(info.fileBytes),
      packedBytes: Number(info.packedBytes),
      stateBytes: Number(info.stateBytes),
      stateBytesPerToken: Number(info.stateBytesPerToken),
      fingerprint: BigInt.asUintN(64, info.fingerprint).toString(16).padStart(16, '0'),
      checked: info.checked,
      warnings: Object.entries(toRecord(info.warnings)).map(([tensor, why]) => `tensor "${tensor}": ${why}`),
      config: toRecord(info.config),
      metadata: toRecord(info.metadata),
    };
  }

  /** The tokenizer.json in the file; empty if there is none. */
  get tokenizer(): string {
    return text(guarded(() => this.#model.tokenizer()));
  }

  open(): EngineSession {
    return new EngineSession(this.#module, this.#model);
  }

  /** Measures with 1 to `most` threads, and uses the fastest number of them. */
  chooseThreads(most: number): number {
    return this.#module.chooseThreads(this.#model, most);
  }

  close(): void {
    this.#model.delete();
  }
}

/** One conversation; see cpp/session/session.h. The caller's time slices bound how many tokens there are in a call. */
export class EngineSession {
  readonly #module: MainModule;
  readonly #session: Conversation;

  constructor(module: MainModule, model: LoadedModel) {
    this.#module = module;
    this.#session = guarded(() => new module.Conversation());
    try {
      guarded(() => check(this.#session.open(model)));
    } catch (error) {
      this.#session.delete();
      throw error;
    }
  }

  get position(): number {
    return Number(this.#session.position());
  }

  /** The last tokens of the text: `most` of them, or as many as there are, at most 256. */
  recent(most: number): Uint32Array<ArrayBuffer> {
    return guarded(() => {
      shared(this.#module, most);
      return shared(this.#module, this.#session.recent(most)).tokens.slice();
    });
  }

  /** Of the next token, Q16.16: one for each of the `vocabulary`. */
  logits(vocabulary: number): Int32Array<ArrayBuffer> {
    return guarded(() => {
      view(this.#module, Int32Array.BYTES_PER_ELEMENT * vocabulary); // may move what there is
      this.#session.logits();
      return Int32Array.from(shared(this.#module, vocabulary).tokens, (logit) => logit | 0);
    });
  }

  reset(): void {
    guarded(() => this.#session.reset());
  }

  /**
   * How many tokens were read: all, or as many as about `budget` multiply-adds are enough for; the rest comes next.
   * All must be in the vocabulary.
   */
  feed(tokens: ArrayLike<number>, budget = kNoLimit): number {
    return this.feedWithBoundaries(tokens, budget).length;
  }

  /** The same, and the mask of each token that was read: bit s is set where a chunk of stage s begins. */
  feedWithBoundaries(tokens: ArrayLike<number>, budget = kNoLimit): Uint8Array<ArrayBuffer> {
    const masks = guarded(() => {
      shared(this.#module, tokens.length).tokens.set(tokens);
      const read = this.#session.feed(tokens.length, toBudget(budget));
      return shared(this.#module, tokens.length).masks.slice(0, read);
    });
    this.refuseIfFull(masks.length, tokens.length);
    return masks;
  }

  /** Whether the last call stopped in the middle of a tile or step. Its next call should come before another session's. */
  get isInsideBatch(): boolean {
    return this.#session.isInsideBatch();
  }

  /** `rules`: a table of ternlm/constraints. `drawn`: the tokens, the last of the text, of a generation that goes on. */
  start(
    sampling: Sampling,
    maxTokens: number,
    rules: Uint32Array = new Uint32Array(0),
    drawn: Uint32Array = new Uint32Array(0),
  ): void {
    guarded(() => {
      const { tokens } = shared(this.#module, drawn.length + rules.length);
      tokens.set(drawn);
      tokens.set(rules, drawn.length);
      check(this.#session.start(sampling, BigInt(maxTokens), drawn.length, rules.length));
    });
  }

  /** At most `count` tokens; fewer when the generation ended, or about `budget` multiply-adds are done. */
  generate(count: number, withBoundaries: boolean, budget = kNoLimit): Written {
    const written = guarded(() => {
      shared(this.#module, count);
      const produced = this.#session.generate(count, toBudget(budget));
      const { tokens, masks } = shared(this.#module, count);
      return { tokens: tokens.slice(0, produced), boundaries: withBoundaries ? masks.slice(0, produced) : null };
    });
    if (!this.finish) this.refuseIfFull(written.tokens.length, count);
    return written;
  }

  /**
   * generate() of several sessions of one model, at most kTileTokens, with the weights read once for all: each writes what
   * it would alone. Those that end have fewer tokens than the others, as have those for which refuseIfFull() knows a reason.
   */
  static generateEach(
    sessions: readonly EngineSession[],
    count: number,
    budget = kNoLimit,
  ): Uint32Array<ArrayBuffer>[] {
    const [first] = sessions;
    if (!first) return [];
    const module = first.#module;
    return guarded(() => {
      const words = sessions.length * (1 + count);
      shared(module, words);
      for (const session of sessions) module.gather(session.#session);
      module.generateEach(count, toBudget(budget));
      const { tokens } = shared(module, words);
      return sessions.map((_, i) => {
        const at = i * (1 + count);
        return tokens.slice(at + 1, at + 1 + (tokens[at] ?? 0));
      });
    });
  }

  get finish(): Finish | null {
    return ([null, 'max-bytes', 'end-of-text', 'context-full', 'stop'] as const)[this.#session.finishState()] ?? null;
  }

  /**
   * Of all tokens, or of as many as about `budget` multiply-adds are enough for; the rest comes next. `top`: how many of
   * the most likely tokens to name. All must be in the vocabulary.
   */
  score(tokens: ArrayLike<number>, top = 0, budget = kNoLimit): Scored {
    const { length } = tokens;
    const scored = guarded(() => {
      const words = (): Uint32Array<ArrayBuffer> => shared(this.#module, (5 + 2 * top) * length).tokens;
      words().set(tokens, 4 * length);
      const done = this.#session.score(length, top, toBudget(budget));
      const all = words();
      return {
        tokens: all.slice(4 * length, 4 * length + done),
        costs: all.slice(0, 4 * done),
        top: all.slice(5 * length, 5 * length + 2 * top * done),
      };
    });
    this.refuseIfFull(scored.tokens.length, length);
    return scored;
  }

  /** Codes tokens that follow the text, as score() reads them; answers how many. */
  encode(tokens: ArrayLike<number>, budget = kNoLimit): number {
    const done = guarded(() => {
      shared(this.#module, tokens.length).tokens.set(tokens);
      return this.#session.encode(tokens.length, toBudget(budget));
    });
    this.refuseIfFull(done, tokens.length);
    return done;
  }

  /** The code of all that encode() was given since the last time. */
  encoded(): Uint8Array<ArrayBuffer> {
    return guarded(() => view(this.#module, this.#session.encoded()).slice());
  }

  startDecoding(code: Uint8Array): void {
    guarded(() => this.#session.startDecoding(put(this.#module, code)));
  }

  /** At most `count` tokens; fewer when about `budget` multiply-adds are done. */
  decode(count: number, budget = kNoLimit): Uint32Array<ArrayBuffer> {
    const tokens = guarded(() => {
      shared(this.#module, count);
      const done = this.#session.decode(count, toBudget(budget));
      if (done > count) throw new TernError('integrity', 'the compressed data is damaged');
      return shared(this.#module, count).tokens.slice(0, done);
    });
    this.refuseIfFull(tokens.length, count);
    return tokens;
  }

  /** Of a text that goes on nothing was read, or written: and nothing ever will be. */
  refuseIfFull(read: number, given: number): void {
    const why = read > 0 || given === 0 ? 0 : this.#session.fullness();
    if (why === 2) throw new TernError('out-of-memory', `there is no memory for more than ${this.position} tokens`);
    if (why === 0) return;
    throw new TernError('bad-state', `the context is full after ${this.position} tokens: reset the session`);
  }

  /** The text is its first tokens, at most all: true where the model remembers each by itself; else nothing changes. */
  truncate(position: number): boolean {
    return guarded(() => this.#session.truncate(BigInt(position)));
  }

  save(): Uint8Array<ArrayBuffer> {
    return guarded(() => {
      const size = this.#session.save();
      if (size === 0) throw new TernError('out-of-memory', 'there is no memory to save the session');
      return view(this.#module, size).slice();
    });
  }

  restore(bytes: Uint8Array): void {
    guarded(() => check(this.#session.restore(put(this.#module, bytes))));
  }

  close(): void {
    this.#session.delete();
  }
}

/** The first `size` bytes of the shared buffer, valid until the next call into the engine. */
function view(module: MainModule, size: number): Uint8Array<ArrayBuffer> {
  // The engine counts to 2^32.
  const bytes = size < 2 ** 31 ? (module.buffer(size) as Uint8Array<ArrayBuffer> | undefined) : undefined;
  if (!bytes) throw new TernError('out-of-memory', `the engine cannot get ${size} bytes`);
  return bytes;
}

/** The shared buffer as `count` tokens and, behind them, the chunk mask of each. */
function shared(
  module: MainModule,
  count: number,
): { tokens: Uint32Array<ArrayBuffer>; masks: Uint8Array<ArrayBuffer> } {
  const tokenBytes = Uint32Array.BYTES_PER_ELEMENT * count;
  const all = view(module, tokenBytes + count);
  return { tokens: new Uint32Array(all.buffer, all.byteOffset, count), masks: all.subarray(tokenBytes) };
}

function toBudget(budget: number): bigint {
  return budget >= kNoLimit ? 2n ** 64n - 1n : BigInt(Math.max(1, Math.floor(budget)));
}

/** Copies bytes into the shared buffer; a view cannot be written beyond its end. */
function put(module: MainModule, bytes: Uint8Array): number {
  view(module, bytes.length).set(bytes);
  return bytes.length;
}

interface Status {
  code: number;
  message: unknown;
}

function check(status: Status): void {
  if (status.code !== 0) throw new TernError(kCodes[status.code - 1] ?? 'engine-failed', text(status.message));
}

/** A trap inside the engine (memory exhausted, a broken promise) leaves it unusable; the page is not affected. */
function guarded<T>(call: () => T): T {
  try {
    return call();
  } catch (error) {
    if (error instanceof TernError) throw error;
    throw new TernError('engine-failed', `the engine stopped (${describe(error)}): load the model again`, {
      cause: error,
    });
  }
}

/** Embind types every string as something that could also be bytes; coming out of the engine it never is. */
function text(value: unknown): string {
  return value as string;
}

interface KeyValues {
  size(): number;
  get(index: number): { key: unknown; value: unknown } | undefined;
  delete(): void;
}

function toRecord(list: KeyValues): Record<string, string> {
  const record: Record<string, string> = {};
  for (let i = 0; i < list.size(); i++) {
    const entry = list.get(i);
    if (entry) record[text(entry.key)] = text(entry.value);
  }
  list.delete();
  return record;
}

function wasmOf(variant: Variant, folder: string | null): Promise<Uint8Array<ArrayBuffer>> {
  return folder === null ? ownWasm(variant) : fetchWasm(new URL(`tern-${variant}.wasm`, folder));
}
