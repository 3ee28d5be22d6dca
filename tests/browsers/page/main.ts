// Runs in a browser: every variant of the engine against the golden files, and the package as a page uses it.
// The result goes to window.__result: { ok, checks: [{ name, error }], notes }.
// SPDX-License-Identifier: MIT

import { load, probe, type GenerateOptions, type Model } from 'ternlm';
import { Engine, type EngineModel } from 'ternlm/engine';
import { kBytes } from 'ternlm/codec';
import { toOrder } from 'ternlm/options';
import { sumOf } from 'ternlm/scores';
import { checkConformance } from 'ternlm/conformance';
import { Operations, type Vector } from '../../../web/src/entries/operations.js';
import { findEndlessPrompt } from '../../web/endless.js';
import type { Golden } from '../../web/golden.js';

interface Listed {
  readonly name: string;
  readonly golden: Golden;
  readonly url: string;
}

interface Check {
  readonly name: string;
  readonly error: string | null;
}

declare global {
  interface Window {
    __result?: { ok: boolean; checks: Check[]; notes: Record<string, unknown> };
    __release?: () => Promise<boolean>;
    __hasRelaxed?: boolean;
  }
}

const checks: Check[] = [];
const notes: Record<string, unknown> = { userAgent: navigator.userAgent };

/** A name is a sentence that is true when the check passes. */
async function check(name: string, run: () => Promise<void>): Promise<void> {
  try {
    await run();
    checks.push({ name, error: null });
  } catch (error) {
    checks.push({ name, error: error instanceof Error ? `${error.name}: ${error.message}` : String(error) });
  }
  const report = document.getElementById('report');
  if (report) report.textContent = checks.map((each) => `${each.error ?? 'ok'}  ${each.name}`).join('\n');
}

function expectSame(found: unknown, expected: unknown, what: string): void {
  const [a, b] = [JSON.stringify(found), JSON.stringify(expected)];
  if (a !== b) throw new Error(`${what}: expected ${b}, found ${a}`);
}

async function expectError(run: () => Promise<unknown>, property: 'code' | 'name', value: string): Promise<void> {
  const found = await run().then(
    () => 'no error',
    (error: unknown) => (error instanceof Error ? String(Reflect.get(error, property)) : String(error)),
  );
  expectSame(found, value, `error ${property}`);
}

const fromHex = (hex: string): Uint8Array<ArrayBuffer> =>
  Uint8Array.from(hex.match(/../g) ?? [], (digits) => Number.parseInt(digits, 16));
const toHex = (bytes: Uint8Array): string => Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');
const toFinish = (finish: string): string => finish.replaceAll('_', '-');

function loadInto(engine: Engine, file: Uint8Array): EngineModel {
  const loader = engine.newLoader(null);
  for (let at = 0; at < file.length; at += 10_007) loader.push(file.subarray(at, at + 10_007));
  const model = loader.finish();
  loader.close();
  return model;
}

async function checkVariant(variant: 'simd' | 'relaxed', list: readonly Listed[]): Promise<void> {
  const engine = await Engine.startVariant(variant, null, '');
  await check(`the ${variant} variant runs its own kernel`, async () => {
    // Which form of the relaxed kernel it is depends on the machine.
    expectSame(engine.info.kernel.split('_')[0], variant === 'simd' ? 'simd128' : 'relaxed', 'kernel');
  });
  for (const { name, golden, url } of list) {
    await check(`the ${variant} variant gives the bytes and bits of ${name}`, async () => {
      const model = loadInto(engine, new Uint8Array(await (await fetch(url)).arrayBuffer()));
      expectSame(model.info.fingerprint, golden.fingerprint ?? model.info.fingerprint, 'fingerprint');
      const codec = golden.prompt_tokens ? { ...kBytes, size: model.info.vocabulary.size } : kBytes;
      for (const { options, bytes, tokens, finish, boundaries } of golden.generations) {
        const session = model.open();
        session.feed(golden.prompt_tokens ?? fromHex(golden.prompt));
        const { sampling, maxTokens } = toOrder(options, { stages: 0, codec, turnEnd: null });
        session.start(sampling, maxTokens);
        const written = session.generate(maxTokens, true);
        expectSame(Array.from(written.tokens), tokens ?? Array.from(fromHex(bytes)), JSON.stringify(options));
        if (model.info.stages > 0) expectSame(toHex(written.boundaries ?? new Uint8Array(0)), boundaries, 'boundaries');
        expectSame(session.finish, toFinish(finish), 'finish');
        session.close();
      }
      const session = model.open();
      const { text, tokens, bits_q32, top1, top5 } = golden.score;
      const score = sumOf(session.score(tokens ?? fromHex(text)));
      const expected = [Number(bits_q32) / 2 ** 32, top1 ?? score.top1, top5 ?? score.top5];
      expectSame([score.bits, score.top1, score.top5], expected, 'score');
      session.close();
      model.close();
    });
  }
}

async function checkPackage(runtime: 'worker' | 'main', list: readonly Listed[]): Promise<void> {
  for (const { name, golden, url } of list) {
    await check(`the package (${runtime}) gives the bytes of ${name}`, async () => {
      const model = await load(url, { runtime });
      expectSame(model.info.runtime.thread, runtime, 'thread');
      notes[`runtime ${runtime}`] = model.info.runtime;
      const trace = { boundaries: model.info.stages > 0 };
      const all = golden.generations.map(({ options }) =>
        model.generate(fromHex(golden.prompt), { ...options, trace }),
      );
      for (const [i, result] of (await Promise.all(all)).entries()) {
        const expected = golden.generations[i];
        expectSame(toHex(result.bytes), expected?.bytes, JSON.stringify(expected?.options));
        const finish = toFinish(expected?.finish ?? '');
        expectSame(result.finish, golden.prompt_tokens ? finish.replace('max-bytes', 'max-tokens') : finish, 'finish');
        expectSame(result.boundaries && toHex(result.boundaries), expected?.boundaries ?? null, 'boundaries');
      }
      const session = model.session();
      await session.feed(fromHex(golden.prompt));
      const { logits } = await session.next();
      if (golden.logits) expectSame(Array.from(logits), golden.logits, 'logits');
      await model.close();
    });
  }
}

const kEndless: GenerateOptions = { greedy: true, maxBytes: 1_000_000_000 };

/** Milliseconds until the engine is free again after an abort: a short generation has to wait for the work to end. */
async function freeAfterAbort(model: Model, prompt: string | Uint8Array): Promise<number> {
  const controller = new AbortController();
  const running = model.generate(prompt, { ...kEndless, signal: controller.signal });
  await new Promise((resolve) => setTimeout(resolve, 100));
  const start = performance.now();
  controller.abort();
  await expectError(() => running, 'name', 'AbortError');
  await model.generate('', { maxBytes: 1, seed: 1 });
  return performance.now() - start;
}

/** The operations of models/SPEC.md in the build of one level. */
async function checkCompression(list: readonly Listed[]): Promise<void> {
  interface Compressed {
    readonly model: string;
    readonly data: string;
    readonly compressed: string;
  }
  const fromBase64 = (text: string): Uint8Array<ArrayBuffer> =>
    Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const vectors: Compressed[] = await (await fetch('golden/compressed.json')).json();
  for (const { model: file, ...vector } of vectors) {
    const [data, compressed] = [fromBase64(vector.data), fromBase64(vector.compressed)];
    await check(
      `${data.length} bytes become those that others compress them to with ${file}, and come back`,
      async () => {
        const model = await load(list.find(({ golden }) => golden.model === file)?.url ?? file);
        expectSame(toHex(await model.compress(data)), toHex(compressed), 'compressed');
        const stream = new Blob([compressed]).stream().pipeThrough(model.decompressStream());
        expectSame(toHex(new Uint8Array(await new Response(stream).arrayBuffer())), toHex(data), 'data');
        await model.close();
      },
    );
  }
}

async function checkOperations(level: 'scalar' | 'simd128' | 'relaxed'): Promise<void> {
  const wasm = await (await fetch(`conformance/${level}.wasm`)).arrayBuffer();
  const operations = await Operations.start(new Uint8Array(wasm));
  for (const tier of ['functions', 'operations']) {
    await check(`the ${level} build answers the vectors of ${tier}`, async () => {
      const { vectors }: { vectors: Vector[] } = await (await fetch(`conformance/${tier}.json`)).json();
      expectSame([operations.kernel.split('_')[0], vectors.length > 30], [level, true], 'kernel, vectors');
      for (const vector of vectors) {
        const { name, expected, found } = await operations.answer(vector, async () => undefined);
        expectSame(found, expected, name);
      }
    });
  }
}

/** What a reader would paste, and the golden bytes of the model that comes with the package. */
async function checkReport(runtime: 'worker' | 'main', list: readonly Listed[]): Promise<void> {
  await check(`ternlm/conformance (${runtime}) reports that all is equal`, async () => {
    const stories = list.find(({ name }) => name === 'tinystories-3m5.json');
    if (!stories) throw new Error('there is no golden file of the shipped model');
    const model = await load(stories.url, { runtime });
    const report = await checkConformance(load, { model, runtime });
    notes[`report ${runtime}`] = report.text;
    await model.close();
    expectSame(report.first, null, 'first difference');
    expectSame([report.equal, report.groups.length], [true, 3], 'equal, groups');
    if (!report.text.includes(navigator.userAgent)) throw new Error('the browser is not named');
  });
}

/** Every thread count gives the golden bytes; where threads cannot be, the package works without and says why. */
async function checkThreads(list: readonly Listed[]): Promise<void> {
  notes['isolated'] = crossOriginIsolated;
  for (const threads of [2, 3, 'auto'] as const) {
    for (const { name, golden, url } of list) {
      await check(`threads: ${threads} gives the bytes and bits of ${name}`, async () => {
        const model = await load(url, { threads });
        notes[`threads ${threads}`] = model.info.runtime;
        for (const { options, bytes } of golden.generations) {
          expectSame(
            toHex((await model.generate(fromHex(golden.prompt), options)).bytes),
            bytes,
            JSON.stringify(options),
          );
        }
        const { text, tokens } = golden.score;
        const score = await model.score(tokens ? Uint32Array.from(tokens) : fromHex(text));
        expectSame(score.bits, Number(golden.score.bits_q32) / 2 ** 32, 'bits');
        await model.close();
      });
    }
  }
  if ((await countThreads(list[0]?.url ?? '')) > 1) await checkBadHelpers(list[0]?.url ?? '');
  await check('the page’s own thread computes alone', async () => {
    const model = await load(list[0]?.url ?? '', { threads: 2, runtime: 'main' });
    expectSame(model.info.runtime.threads.count, 1, 'threads');
    if (model.info.runtime.threads.reason === '') throw new Error('there is no reason');
    await model.close();
  });
}

async function countThreads(url: string): Promise<number> {
  const model = await load(url, { threads: 2 });
  await model.close();
  return model.info.runtime.threads.count;
}

async function checkBadHelpers(url: string): Promise<void> {
  await check('threads that cannot start are done without, and it says why', async () => {
    const model = await withHelper('wrong/worker.js', () => load(url, { threads: 2 }));
    const { count, reason } = model.info.runtime.threads;
    if (count !== 1 || !reason.startsWith('threads could not be started: ')) throw new Error(`${count}: ${reason}`);
    await model.generate('x', { maxBytes: 1 });
    await model.close();
  });
  await check('a thread that stops ends the model with an error', async () => {
    const work = async (): Promise<void> => {
      const model = await withHelper('wrong/helper.js', () => load(url, { threads: 2 }));
      for (;;) await model.generate('x', { maxBytes: 64 });
    };
    await expectError(work, 'code', 'engine-failed');
  });
}

/** What `run` gives when the script of all further threads is another one. */
async function withHelper<T>(script: string, run: () => Promise<T>): Promise<T> {
  const real = window.Worker;
  window.Worker = class extends real {
    constructor(url: string | URL, options?: WorkerOptions) {
      super(String(url).includes('helper') ? script : url, options);
    }
  };
  try {
    return await run();
  } finally {
    window.Worker = real;
  }
}

/** Two models with threads that are kept busy; window.__release ends one by abort and close, the other by close alone. */
async function holdThreads(first: Listed): Promise<void> {
  const models = await Promise.all([load(first.url, { threads: 3 }), load(first.url, { threads: 3 })]);
  const controller = new AbortController();
  const running = models.map((model, i) =>
    model.generate('x'.repeat(4_000_000), i === 0 ? { ...kEndless, signal: controller.signal } : kEndless),
  );
  for (const each of running) each.catch(() => undefined);
  window.__release = async () => {
    controller.abort();
    await expectError(() => running[0] ?? Promise.resolve(), 'name', 'AbortError');
    await models[0].generate('goes on', { maxBytes: 1 });
    for (const model of models) await model.close();
    await expectError(() => running[1] ?? Promise.resolve(), 'code', 'closed');
    return true;
  };
}

async function checkBehaviour(first: Listed): Promise<void> {
  const model = await load(first.url);
  const endlessPrompt = await findEndlessPrompt(model);
  await check('a long prompt is aborted while it is read, and the model goes on', async () => {
    notes['ms from abort to the next byte, reading'] = await freeAfterAbort(model, 'x'.repeat(4_000_000));
  });
  await check('a generation is aborted while it writes, and the model goes on', async () => {
    notes['ms from abort to the next byte, writing'] = await freeAfterAbort(model, endlessPrompt);
  });
  await check('a short generation does not wait for an endless one', async () => {
    const endless = model.stream(endlessPrompt, kEndless);
    const end = endless.result.then(() => 'endless');
    expectSame(await Promise.race([end, model.generate('b', { maxBytes: 20 }).then(() => 'short')]), 'short', 'first');
    expectSame((await endless.stop()).finish, 'stopped', 'finish');
  });
  await check('a stream of text that is cancelled ends the generation', async () => {
    const generation = model.stream(endlessPrompt, kEndless);
    const reader = generation.text.getReader();
    await reader.read();
    await reader.cancel();
    expectSame((await generation.result).finish, 'stopped', 'finish');
  });
  await check('wrong options are refused and change nothing', async () => {
    await expectError(() => model.generate('x', { temperature: -1 }), 'code', 'bad-option');
    await expectError(() => model.generate('x', { topK: 0 }), 'code', 'bad-option');
    await model.generate('x', { maxBytes: 1 });
  });
  await check('a closed model ends what runs and refuses work', async () => {
    const running = model.generate(endlessPrompt, kEndless);
    await model.close();
    await expectError(() => running, 'code', 'closed');
    await expectError(() => model.generate('x'), 'code', 'closed');
  });
  await check('an HTML page in place of the model is an error, and loading can be tried again', async () => {
    const page = (): Response => new Response('<!doctype html><title>Not found</title>');
    await expectError(() => load(page()), 'code', 'not-the-file');
    await (await load(first.url)).close();
  });
  await check('an HTML page in place of the wasm is an error that says so', async () => {
    await expectError(() => load(first.url, { assets: { wasm: 'wrong/' } }), 'code', 'bad-assets');
  });
  await check('a worker that cannot start is replaced by the page, which says why', async () => {
    const here = await load(first.url, { assets: { worker: 'wrong/worker.js' } });
    expectSame(here.info.runtime.thread, 'main', 'thread');
    if (!here.info.runtime.threadReason.startsWith('no worker could be started: ')) {
      throw new Error(`the reason is ${here.info.runtime.threadReason}`);
    }
    await here.close();
  });
}

/** Service workers can start no workers, and import nothing when they run. */
async function askServiceWorker(url: string): Promise<string> {
  const registration = await navigator.serviceWorker.register('service-worker.js', { type: 'module' });
  const worker = registration.installing ?? registration.waiting ?? registration.active;
  if (!worker) throw new Error('it was not registered');
  while (worker.state !== 'activated') {
    await new Promise((resolve) => worker.addEventListener('statechange', resolve, { once: true }));
  }
  const { port1, port2 } = new MessageChannel();
  const answer = new Promise<string>((resolve) => {
    port1.onmessage = ({ data }: MessageEvent<string>) => resolve(data);
  });
  worker.postMessage(url, [port2]);
  const found = await answer;
  await registration.unregister();
  return found;
}

async function checkProbe(runtime: 'worker' | 'main', variant: string): Promise<void> {
  await check(`probe() (${runtime}) uses the fastest exact kernel of the ${variant} variant`, async () => {
    const capabilities = await probe({ runtime });
    notes[`probe ${runtime}`] = capabilities;
    expectSame([capabilities.runtime.thread, capabilities.runtime.variant], [runtime, variant], 'runtime');
    expectSame(capabilities.kernels[0]?.name, 'scalar', 'first kernel');
    const inUse = capabilities.kernels.filter((kernel) => kernel.inUse);
    expectSame(
      inUse.map(({ name, exact }) => [name, exact]),
      [[capabilities.runtime.kernel, true]],
      'in use',
    );
    const rates = capabilities.kernels.slice(1).map(({ gmacPerS }) => gmacPerS ?? 0);
    expectSame(inUse[0]?.gmacPerS ?? 0, Math.max(...rates), 'rate of the kernel in use');
  });
}

/** Asked without the engine, which asks in its own way: a function of no more than i8x16.relaxed_swizzle. */
const kHasRelaxed = WebAssembly.validate(
  Uint8Array.from(
    [0x00, 0x61, 0x73, 0x6d, 1, 0, 0, 0].concat(
      [0x01, 5, 1, 0x60, 0, 1, 0x7b], // () -> v128
      [0x03, 2, 1, 0],
      [0x0a, 15, 1, 13, 0, 0x41, 1, 0xfd, 0x0f, 0x41, 2, 0xfd, 0x0f, 0xfd, 0x80, 0x02, 0x0b], // of two i8x16.splat
    ),
  ),
);

async function run(): Promise<void> {
  notes['hasRelaxed'] = window.__hasRelaxed = kHasRelaxed;
  const list: Listed[] = await (await fetch('golden/index.json')).json();
  const first = list.find(({ name }) => name === 'tiny_state.json');
  if (!first) throw new Error('there is no tiny_state among the golden files');
  if (location.search === '?threads') return checkThreads(list);
  if (location.search === '?hold') return holdThreads(first);
  await checkVariant('simd', list);
  const engine = await Engine.start(null, 1, () => Promise.reject(new Error('one thread needs no others')));
  notes['variant'] = engine.info;
  if (engine.info.variant === 'relaxed') await checkVariant('relaxed', list);
  for (const level of ['scalar', 'simd128', 'relaxed'] as const) {
    if (level !== 'relaxed' || engine.info.variant === 'relaxed') await checkOperations(level);
  }
  await checkProbe('worker', engine.info.variant);
  await checkProbe('main', engine.info.variant);
  await checkPackage('worker', list);
  await checkPackage('main', list);
  await checkCompression(list);
  await checkReport('worker', list);
  await checkReport('main', list);
  await checkBehaviour(first);
  const firefox = Number(/Firefox\/(\d+)/.exec(navigator.userAgent)?.[1] ?? Infinity);
  notes['service worker'] = firefox >= 147 ? 'tried' : `Firefox ${firefox} has none of modules, 147 has`;
  await check('in a service worker, which can run no engine, loading fails with a code', async () => {
    if (firefox < 147) return;
    expectSame(await askServiceWorker(new URL(first.url, location.href).href), 'unsupported', 'code');
  });
  await check('without isolation there is one thread, which says what would be needed', async () => {
    const model = await load(first.url, { threads: 2 });
    expectSame([crossOriginIsolated, model.info.runtime.threads.count], [false, 1], 'isolated, threads');
    if (!/Cross-Origin-Opener-Policy: same-origin/.test(model.info.runtime.threads.reason)) {
      throw new Error(`the reason is ${model.info.runtime.threads.reason}`);
    }
    await model.close();
  });
}

await check('the checks ran to the end', run);
window.__result = { ok: checks.every(({ error }) => error === null), checks, notes };
