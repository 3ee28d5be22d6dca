// Loading a model, and what a loaded model can do.
// SPDX-License-Identifier: MIT

import type { ChatOptions, Message, Reply } from './chat.js';
import { kBytes, toBytes, type Codec, type Input } from '../codec.js';
import { abortable } from '../deferred.js';
import type { FileInfo, Pushed, Threads } from '../engine/types.js';
import { TernError, badOption, leftBehind } from '../errors.js';
import type { Connection } from '../link/connection.js';
import { start, type Assets, type Runtime, type RuntimeInfo } from '../link/start.js';
import type { Generation, GenerateResult } from './generation.js';
import {
  checked,
  toLoadOrder,
  toSignal,
  type CallOptions,
  type GenerateOptions,
  type ScoreOptions,
  type SessionOptions,
  type TextOptions,
  type Traits,
} from './options.js';
import type { TokenScore } from './scores.js';
import { Session, type Score } from './session.js';
import type { Fetch } from '../request.js';
import type { Cache, KeptFile } from '../store/kept.js';
import type { PlaceName } from '../store/places.js';
import { asOurs } from './others.js';
import { Progress, type LoadProgress } from './progress.js';
import { isModelFile, openSource, readNext, type ModelFile, type Source } from './source.js';
import { through, whole, type Process } from './through.js';

export interface LoadOptions extends CallOptions {
  /** What it throws, loading fails with. */
  onProgress?: (progress: LoadProgress) => void;
  /** SHA-256 of the file, 64 hexadecimal digits: another file is refused. The checksum in a file is always compared. */
  integrity?: string;
  /** Size of the file if known, so that the first progress report has a total. */
  bytes?: number;
  /** 'auto' (default): a worker, or this thread where no worker can be started; then `info.runtime` says why. */
  runtime?: Runtime;
  /**
   * Threads to compute with, the engine's own among them: 1 (default) to 64, or 'auto' for as many as make this model
   * faster, measured when it is loaded. More than one needs a cross-origin isolated page (the response headers
   * Cross-Origin-Opener-Policy: same-origin and Cross-Origin-Embedder-Policy: require-corp), a worker, relaxed SIMD and,
   * until it is reliable there, another browser than Firefox; otherwise it is one, and `info.runtime.threads` says why.
   * The number never changes the output.
   */
  threads?: Threads;
  /** Where the package's own files are, if the bundler's places are not right. */
  assets?: Assets;
  /** Replaces the global fetch for the model file. */
  fetch?: Fetch;
  /**
   * Where a model that has an address is kept, so that it is loaded from there the next time, also offline: 'auto' is the
   * origin's private file system ('opfs') or else the Cache API ('cache-api'); 'memory' lasts as long as the page. What
   * is not said is 'auto' for a model whose checksum is known (`integrity`, the package's own) and for 'hf:...', else
   * 'none'. Pieces are verified when they are read, and those that are damaged downloaded again; where there is no room,
   * the model is loaded all the same, and `info.storage` says so. Without a checksum the server is asked each time
   * whether the file is still the same. See 'ternlm/storage' for what is kept.
   */
  cache?: Cache;
  /**
   * Whether an interrupted download goes on where it was: by itself within seconds, and with a cache also after a reload.
   * Default: with a cache it does.
   */
  resume?: boolean;
  /** Where 'hf:' files are; default 'https://huggingface.co/'. */
  hub?: string | URL;
}

/** What became of `cache`. */
export interface StorageInfo {
  /** Where the model is kept; 'none': it is not. */
  readonly place: PlaceName | 'none';
  /** Why it is not kept, or not wholly, although it was to be: no storage in this page, no room, ...; else empty. */
  readonly reason: string;
  /** Bytes of the file that were kept from an earlier load. */
  readonly fromCache: number;
  /** Whether an interrupted download was gone on with. */
  readonly resumed: boolean;
}

export interface ModelInfo extends FileInfo {
  readonly runtime: RuntimeInfo;
  /** Whether the file has the checksum that was asked for; `checked` tells of the one that the file carries. */
  readonly integrity: 'verified' | 'not asked for';
  readonly storage: StorageInfo;
  /** From the call to a model ready to write. */
  readonly loadMs: number;
}

/**
 * Loads a model: one of ours, or a BitNet as llama.cpp and microsoft/BitNet write it, which ternlm/gguf turns into ours while
 * it arrives. Fails with a TernError (or the signal's reason) and may then simply be called again.
 */
export async function load(model: Source | ModelFile, options?: LoadOptions): Promise<Model> {
  if (isModelFile(model)) return loadOwn(model, options);
  const started = performance.now();
  let kept: KeptFile | null = null;
  const attempt = async (): Promise<Model> => loadOnce(model, options, started, (file) => (kept = file));
  try {
    return await attempt();
  } catch (error) {
    if (!(await mend(kept, error))) throw error;
    return attempt(); // without what was kept
  }
}

async function mend(kept: KeptFile | null, error: unknown): Promise<boolean> {
  return kept !== null && kept.mend(error);
}

async function loadOnce(
  model: Source,
  options: LoadOptions | undefined,
  started: number,
  onKept: (kept: KeptFile | null) => void,
): Promise<Model> {
  const { onProgress, bytes, runtime, assets, threads, ...order } = toLoadOrder(options);
  const { signal, integrity } = order;
  return abortable(signal, async (scope) => {
    const progress = new Progress(bytes ?? null, onProgress);
    const opening = openSource(model, { ...order, onPhase: (phase) => progress.turnTo(phase) }).then((opened) => {
      scope.add(() => void opened.reader.cancel().catch(() => undefined));
      onKept(opened.kept);
      return opened;
    });
    // Both take a while and neither needs the other: the engine starts while the server answers.
    const [opened, { connection, place, keepHelpers }] = await Promise.all([
      opening,
      start({ runtime, assets, threads, integrity: integrity?.toLowerCase() ?? null }, scope),
    ]);
    progress.expect(bytes ?? opened.bytes);
    async function* pieces(): AsyncGenerator<Uint8Array<ArrayBuffer>, void> {
      for (;;) {
        signal?.throwIfAborted();
        progress.report(opened.kept);
        const piece = await readNext(opened);
        if (!piece) return;
        progress.add(piece.length);
        yield piece;
      }
    }
    let [expected, pushed] = [0, 0];
    const next: { of: Pushed } = { of: 'both' };
    const onOther = async (piece: Uint8Array<ArrayBuffer>): Promise<void> => {
      next.of = 'model';
      if (integrity) await connection.ask({ kind: 'push', bytes: piece.slice(), of: 'file' }).answer;
    };
    for await (const piece of asOurs(pieces(), onOther)) {
      pushed += piece.length;
      ({ expected } = await connection.ask({ kind: 'push', bytes: piece, ...next }).answer);
      if (expected === 0 || next.of === 'model') continue;
      progress.expect(expected);
      opened.kept?.expect(expected);
    }
    if (pushed < expected) {
      throw new TernError(
        'incomplete',
        `expected ${expected} bytes, as the file begins, received ${pushed}: try again`,
      );
    }
    const { file, tokenizer, engine, threads: used } = await connection.ask({ kind: 'finish' }).answer;
    keepHelpers(used.count - 1);
    const [codec] = await Promise.all([codecOf(file, tokenizer), opened.kept?.keep()]);
    const loadMs = performance.now() - started;
    const { place: keptIn = 'none', reason = '', fromCache = 0, resumed = false } = opened.kept ?? {};
    const info: ModelInfo = {
      ...file,
      runtime: { ...place, ...engine, threads: used },
      integrity: integrity === undefined ? 'not asked for' : 'verified',
      storage: { place: keptIn, reason, fromCache, resumed },
      loadMs,
    };
    return Model.ready(connection, info, codec);
  });
}

/** What the model's file must be is known; options can say otherwise. */
async function loadOwn({ source, bytes, sha256 }: ModelFile, options?: LoadOptions): Promise<Model> {
  try {
    return await load(source, { bytes, integrity: sha256, ...options });
  } catch (error) {
    const isMissing = error instanceof TernError && ['http', 'network', 'not-the-file'].includes(error.code);
    if (!isMissing || !(source instanceof URL)) throw error;
    const remedy = leftBehind(`'ternlm/models/…/inline' has the file inside`);
    throw new TernError(error.code, `${error.message}: ${remedy}`, { cause: error });
  }
}

/** `json`: the file's tokenizer.json, or nothing. What reads it is fetched only for a model that needs it. */
async function codecOf({ metadata, vocabulary }: FileInfo, json: string): Promise<Codec> {
  if (metadata['tokenizer.ggml.model'] === 'byte') return kBytes;
  if (json === '') {
    throw new TernError(
      'unsupported',
      `the model has a vocabulary of ${vocabulary.size} pieces, and its file does not say which they are: convert it again, with its tokenizer.json`,
    );
  }
  try {
    const { Tokenizer } = await import('../tokenizer.js');
    return await Tokenizer.start(json, vocabulary.size);
  } catch (error) {
    throw TernError.from(error, 'bad-assets', 'ternlm/tokenizer could not be loaded: ');
  }
}

type Direction = 'compressing' | 'decompressing';

interface Coder {
  readonly process: Process;
  readonly signal: AbortSignal | undefined;
  readonly close: () => void;
}

/** A loaded model. Any number of generations may run at once; each is a conversation of its own. */
export class Model implements AsyncDisposable {
  readonly info: ModelInfo;
  readonly #connection: Connection;
  readonly #traits: Traits;

  private constructor(connection: Connection, info: ModelInfo, codec: Codec) {
    this.#connection = connection;
    const turnEnd = info.metadata['tokenizer.ggml.eot_token_id'];
    this.#traits = { stages: info.stages, codec, turnEnd: turnEnd === undefined ? null : Number(turnEnd) };
    this.info = info;
  }

  /** Called by load(): a Model is always loaded. */
  static ready(connection: Connection, info: ModelInfo, codec: Codec): Model {
    return new Model(connection, info, codec);
  }

  /** Continues the prompt. Wrong options throw here, before anything runs. */
  stream(prompt: Input, options?: GenerateOptions): Generation {
    return Session.generate(this.#connection, this.#traits, prompt, options);
  }

  /** Continues the prompt and returns the whole output. */
  async generate(prompt: Input, options?: GenerateOptions): Promise<GenerateResult> {
    return this.stream(prompt, options).result;
  }

  /**
   * Goes on with a generation from its checkpoint(): its output is the whole one, what was written before first. Fails with
   * `bad-option` if the text is damaged, `bad-state` if it was made with another model.
   */
  async resume(checkpoint: string, options?: CallOptions): Promise<Generation> {
    return Session.resume(this.#connection, this.#traits, checkpoint, options);
  }

  /**
   * The model's reply to a conversation, whose last message is the user's. The messages are put as the model was trained
   * on them. Of a conversation that goes on only what is new is read. What needs more room than the context has loses its
   * oldest exchanges: `dropped` of the reply says which. Errors: see chat() of ternlm/chat.
   */
  async chat(messages: readonly Message[], options?: ChatOptions): Promise<Reply> {
    return (await import('./chat.js')).chat(this, messages, options);
  }

  /** Whether the file says how messages become a text: else chat() is refused with `unsupported`. */
  get isMadeToChat(): boolean {
    const { metadata } = this.info;
    return ['tokenizer.ternlm.chat.user', 'tokenizer.chat_template'].some((key) => metadata[key] !== undefined);
  }

  /** @internal */
  get codec(): Codec {
    return this.#traits.codec;
  }

  /** What the text costs the model: how well it predicts each byte or token from those before it. */
  async score(text: Input, options?: TextOptions): Promise<Score> {
    const session = this.session();
    try {
      return await session.score(text, options);
    } finally {
      await session.close();
    }
  }

  /** The same token by token, as long as somebody reads: see Session.scoreStream(). Wrong options throw here. */
  scoreStream(text: Input, options?: ScoreOptions): AsyncGenerator<TokenScore, void, undefined> {
    return Session.scoreStream(this.#connection, this.#traits, text, options);
  }

  /**
   * The data as what a decoder with this model needs to find it again, about an eighth of score()'s bits in bytes: by
   * arithmetic coding, in integers, so that any device finds the same, and `tern decompress`, too. TernError 'unsupported'
   * where the model's tokens are pieces of text, and none stands for a byte of it.
   */
  async compress(data: string | Uint8Array, options?: CallOptions): Promise<Uint8Array<ArrayBuffer>> {
    return this.#code('compressing', data, options);
  }

  /**
   * What compress() was given. TernError: 'bad-file' for what is no compressed data, 'wrong-model', 'incomplete', or
   * 'integrity' if it is damaged.
   */
  async decompress(data: Uint8Array, options?: CallOptions): Promise<Uint8Array<ArrayBuffer>> {
    if (typeof data === 'string') throw badOption('data', 'a Uint8Array', data);
    return this.#code('decompressing', data, options);
  }

  /** compress() for data of any length: `readable.pipeThrough(model.compressStream())`. */
  compressStream(options?: CallOptions): TransformStream<Uint8Array, Uint8Array<ArrayBuffer>> {
    const { process, signal, close } = this.#coder('compressing', options);
    return through(process, this.#connection, signal, close);
  }

  /** decompress() for data of any length. What it gives is proven only by the end of the stream. */
  decompressStream(options?: CallOptions): TransformStream<Uint8Array, Uint8Array<ArrayBuffer>> {
    const { process, signal, close } = this.#coder('decompressing', options);
    return through(process, this.#connection, signal, close);
  }

  async #code(
    direction: Direction,
    data: string | Uint8Array,
    options: CallOptions | undefined,
  ): Promise<Uint8Array<ArrayBuffer>> {
    const bytes = toBytes('data', data);
    return whole(this.#coder(direction, options).process, bytes);
  }

  /** What does it is loaded only for those who use it. */
  #coder(direction: Direction, options: CallOptions | undefined): Coder {
    const signal = toSignal(checked('', options, 'signal').signal);
    signal?.throwIfAborted();
    const coding = Session.coding(this.#connection, this.#traits, this.info.fingerprint, signal);
    const close = async (): Promise<void> => coding[Symbol.asyncDispose]();
    async function* process(input: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array<ArrayBuffer>, void> {
      try {
        const load = import('../compress.js');
        const ways = await load.catch((error: unknown) => {
          throw TernError.from(error, 'bad-assets', 'ternlm/compress could not be loaded: ');
        });
        yield* ways[direction](coding, input);
      } finally {
        await close();
      }
    }
    return { process, signal, close: () => void close() };
  }

  /** A conversation that is kept: feed, stream, feed again, fork, go back. Close it when done. */
  session(options?: SessionOptions): Session {
    return Session.open(this.#connection, this.#traits, options ?? {});
  }

  /** One that goes on from a snapshot; `bad-state` if that is damaged or of another model. */
  async restore(snapshot: Uint8Array, options?: SessionOptions): Promise<Session> {
    return Session.restored(this.#connection, this.#traits, snapshot, options);
  }

  /** Ends what is running, which fails with `closed`, and gives all memory back. Closing twice is fine. */
  async close(): Promise<void> {
    this.#connection.close(new TernError('closed', 'the model was closed'));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}
