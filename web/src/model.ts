// Loading a model, and what a loaded model can do.
// SPDX-License-Identifier: MIT

import { Client, type Assets, type Runtime, type RuntimeInfo } from './client.js';
import { openSource, type Fetch, type Source } from './download.js';
import { TernError, describe } from './errors.js';
import { Generation, type GenerateResult, type Plan } from './generation.js';
import { Sha256Check } from './integrity.js';
import { toEngineOptions, wantsBoundaries, type GenerateOptions } from './options.js';
import type { FileInfo } from './protocol.js';
import { toThreads, type Threads } from './threads.js';
import { Session, toScore, type Score } from './session.js';
import { toBytes, type Input } from './utf8.js';

export interface LoadProgress {
  /** Bytes received so far. */
  readonly received: number;
  /** Size of the whole file; null while unknown (the file's own header tells it within the first kilobytes). */
  readonly total: number | null;
}

export interface LoadOptions {
  signal?: AbortSignal;
  onProgress?: (progress: LoadProgress) => void;
  /** SHA-256 of the file, 64 hexadecimal digits. Another file is refused. */
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
}

export interface ModelInfo extends FileInfo {
  readonly runtime: RuntimeInfo;
  /** 'verified', or why the checksum was not compared. */
  readonly integrity: 'verified' | 'not asked for' | 'not available in an insecure context';
  /** From the call to a model ready to write. */
  readonly loadMs: number;
}

/** Loads a model. Fails with a TernError (or the signal's reason) and may then simply be called again. */
export async function load(source: Source, options: LoadOptions = {}): Promise<Model> {
  const started = performance.now();
  const { signal, runtime = 'auto', assets = {} } = options;
  const given: unknown = runtime; // a caller in plain JavaScript can pass anything
  if (given !== 'auto' && given !== 'worker' && given !== 'main') {
    throw new TernError('bad-option', `runtime must be 'auto', 'worker' or 'main', found ${String(given)}`);
  }
  const threads = toThreads(options.threads === undefined ? 1 : options.threads);
  const sha256 = new Sha256Check(options.integrity);
  // Both take a while and neither needs the other: the engine starts while the server answers.
  const [opened, engine] = await bothOrNeither(
    openSource(source, { signal, fetch: options.fetch }),
    Client.start(runtime, assets, threads),
  );
  const { client, info } = engine;
  const reader = opened.stream.getReader();
  const onAbort = (): void => {
    client.close(new TernError('closed', 'loading was aborted'));
    void reader.cancel().catch(() => undefined); // the loop below may be waiting for bytes that never come
  };
  signal?.addEventListener('abort', onAbort);
  try {
    let received = 0;
    let total = options.bytes ?? opened.bytes;
    for (;;) {
      signal?.throwIfAborted();
      options.onProgress?.({ received, total });
      const { value, done } = await reader.read();
      if (done) break;
      received += value.length;
      sha256.add(value);
      const expected = await client.push(value);
      if (expected > 0) total = expected;
    }
    const { file, engine: tuned, threads: used } = await client.finish();
    const integrity = await sha256.finish();
    signal?.throwIfAborted();
    const runtimeInfo = { ...info, ...tuned, threads: used };
    return Model.ready(client, { ...file, runtime: runtimeInfo, integrity, loadMs: performance.now() - started });
  } catch (error) {
    void reader.cancel(error).catch(() => undefined);
    client.close(new TernError('closed', 'loading failed'));
    signal?.throwIfAborted();
    if (error instanceof TernError) throw error;
    throw new TernError('network', `the download broke off (${describe(error)}): try again`, { cause: error });
  } finally {
    signal?.removeEventListener('abort', onAbort);
  }
}

/** A loaded model. Any number of generations may run at once; each is a conversation of its own. */
export class Model implements AsyncDisposable {
  readonly info: ModelInfo;
  readonly #client: Client;

  private constructor(client: Client, info: ModelInfo) {
    this.#client = client;
    this.info = info;
  }

  /** Called by load(): a Model is always loaded. */
  static ready(client: Client, info: ModelInfo): Model {
    return new Model(client, info);
  }

  /** Continues the prompt. Wrong options throw here, before anything runs. */
  stream(prompt: Input, options: GenerateOptions = {}): Generation {
    const engineOptions = toEngineOptions(options);
    const boundaries = wantsBoundaries(options, this.info.stages);
    const bytes = toBytes(prompt).slice();
    const client = this.#open();
    const session = client.open();
    const { signal } = options;
    const plan: Plan = {
      seed: engineOptions.seed,
      boundaries,
      prepare: () => client.run(session, { kind: 'feed', bytes, boundaries }, { signal }),
      begin: (credit, onWritten) =>
        client.run(session, { kind: 'generate', options: engineOptions, boundaries, credit }, { signal, onWritten }),
      release: () => client.shut(session),
    };
    return new Generation(plan);
  }

  /** Continues the prompt and returns the whole output. */
  async generate(prompt: Input, options: GenerateOptions = {}): Promise<GenerateResult> {
    return this.stream(prompt, options).result;
  }

  /** What the text costs the model: how well it predicts each byte from those before it. */
  async score(text: Input, options: { signal?: AbortSignal } = {}): Promise<Score> {
    const client = this.#open();
    const session = client.open();
    try {
      return toScore(await client.run(session, { kind: 'score', bytes: toBytes(text).slice() }, options).outcome);
    } finally {
      client.shut(session);
    }
  }

  /** A conversation that is kept: feed, stream, feed again, save. Close it when done. */
  session(): Session {
    return Session.open(this.#open(), this.info.stages);
  }

  /** Ends what is running and gives all memory back. Closing twice is fine. */
  async close(): Promise<void> {
    this.#client.close(new TernError('closed', 'the model was closed'));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  #open(): Client {
    if (this.#client.failure) throw this.#client.failure;
    return this.#client;
  }
}

/** The results of two promises; when one fails, what the other still brings is closed. */
async function bothOrNeither<A extends { stream: ReadableStream }, B extends { client: Client }>(
  opening: Promise<A>,
  starting: Promise<B>,
): Promise<[A, B]> {
  try {
    return await Promise.all([opening, starting]);
  } catch (error) {
    void opening.then(({ stream }) => stream.cancel()).catch(() => undefined);
    void starting.then(({ client }) => client.close(new TernError('closed', 'loading failed'))).catch(() => undefined);
    throw error;
  }
}
