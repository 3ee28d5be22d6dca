// What this machine can do at most, and how near the engine comes to it: measured in the page, in slices that let it live.
// SPDX-License-Identifier: MIT

import { signal } from '@preact/signals';
import { probe, type Capabilities, type Model } from 'ternlm';
import type { Choice } from './choice.js';
import { assets } from './confined.js';
import memory from './limits/memory.wat';
import relaxed from './limits/relaxed.wat';
import simd from './limits/simd.wat';
import { keepSpeed } from './speeds.js';

export interface Limits {
  /** Dot products with what they need in registers, thousands of millions of multiply-adds a second; by instruction. */
  readonly dot: number;
  readonly instruction: string;
  /** Thousands of millions of bytes a second, read one after the other: of 16 KB, and of 64 MB. */
  readonly cache: number;
  readonly memory: number;
}

/** Bytes a second of a text that is read `at` so many bytes at once; 1: written. */
export interface Rate {
  readonly at: number;
  readonly bytesPerSecond: number;
}

export interface Bench {
  readonly state: 'measuring' | 'measured' | 'stopped' | 'failed';
  /** What is being measured, or what went wrong. */
  readonly said: string;
  readonly limits: Limits | null;
  readonly kernels: Capabilities | null;
  readonly model: string;
  /** Multiply-adds with each byte; null where nobody has said it. */
  readonly products: number | null;
  readonly rates: readonly Rate[];
  readonly firstByteMs: number | null;
}

export const bench = signal<Bench | null>(null);

let working = new AbortController();

export function stopBench(): void {
  working.abort();
}

const kReads = [16, 32, 64, 128, 256, 512, 1024];
const kSeconds = 0.4; // for each rate
const kLoopSeconds = 1.2; // for the loop of dot products, which browsers compile well only after a while
const kSlice = 20; // milliseconds: the clock of some browsers counts whole ones

export async function runBench(model: Model, { file, published }: Choice): Promise<void> {
  working.abort();
  const mine = (working = new AbortController());
  const { signal: aborted } = mine;
  const set = (change: Partial<Bench>): void => {
    aborted.throwIfAborted();
    if (bench.value) bench.value = { ...bench.value, ...change };
  };
  bench.value = {
    state: 'measuring',
    said: 'What the machine can do at most…',
    ...{ limits: null, kernels: null, rates: [], firstByteMs: null },
    model: model.info.name,
    products: published?.products_per_byte ?? null,
  };
  try {
    set({ limits: await measureLimits(aborted), said: 'What the engine’s products reach…' });
    set({ kernels: await probe({ assets, signal: aborted }), said: 'What the model reaches…' });
    const { rate, firstByteMs } = await writeRate(model, aborted);
    const rates = [rate];
    set({ rates, firstByteMs });
    keepSpeed(file, rate.bytesPerSecond);
    for (const at of kReads) {
      rates.push(await readRate(model, at, aborted));
      set({ rates: [...rates] });
    }
    set({ state: 'measured', said: '' });
  } catch (error) {
    if (mine !== working) return;
    const said = error instanceof Error ? error.message : String(error);
    bench.value = { ...bench.value, ...(aborted.aborted ? { state: 'stopped', said: '' } : { state: 'failed', said }) };
  }
}

async function measureLimits(aborted: AbortSignal): Promise<Limits> {
  const isRelaxed = WebAssembly.validate(relaxed);
  const { dot } = await functionsOf(isRelaxed ? relaxed : simd);
  const page = { memory: new WebAssembly.Memory({ initial: 1024 }) };
  new Uint8Array(page.memory.buffer).fill(1); // or the system would not give it yet
  const { read } = await functionsOf(memory, { page });
  if (!dot || !read) throw new Error('the loops have other names');
  return {
    dot: (await bestRate((rounds) => dot(rounds), 8 * 16, aborted, kLoopSeconds)) / 1e9,
    instruction: isRelaxed ? 'relaxed SIMD' : 'SIMD128',
    cache: (await bestRate((rounds) => repeat(rounds, () => read(1 << 14)), 1 << 14, aborted)) / 1e9,
    memory: (await bestRate((rounds) => repeat(rounds, () => read(1 << 26)), 1 << 26, aborted)) / 1e9,
  };
}

type Loop = (parameter: number) => number;

async function functionsOf(
  bytes: Uint8Array<ArrayBuffer>,
  imports: WebAssembly.Imports = {},
): Promise<Readonly<Record<string, Loop | undefined>>> {
  const { instance } = await WebAssembly.instantiate(bytes, imports);
  return instance.exports as Readonly<Record<string, Loop>>;
}

function repeat(rounds: number, work: () => void): void {
  for (let i = 0; i < rounds; i++) work();
}

/** Of several slices the fastest; `unit`: of what a round does so many. Per second. */
async function bestRate(
  work: (rounds: number) => void,
  unit: number,
  aborted: AbortSignal,
  seconds = kSeconds,
): Promise<number> {
  let [rounds, best] = [1, 0];
  for (const end = performance.now() + 1000 * seconds; performance.now() < end;) {
    const start = performance.now();
    work(rounds);
    const took = performance.now() - start;
    if (took < kSlice / 2) {
      rounds *= 2;
      continue;
    }
    best = Math.max(best, (1000 * rounds * unit) / took);
    await new Promise((resolve) => setTimeout(resolve));
    aborted.throwIfAborted();
  }
  return best;
}

const kText = 'Once upon a time, there was a little girl named Lily. She liked to play in the garden with her dog. ';

async function writeRate(model: Model, aborted: AbortSignal): Promise<{ rate: Rate; firstByteMs: number }> {
  const asked = performance.now();
  let [first, bytes, last] = [0, 0, 0];
  for (let seed = 1; last - first < 1000 * kSeconds && seed < 9; seed++) {
    const options = { temperature: 0.7, seed, maxTokens: 100_000, signal: aborted };
    for await (const chunk of model.stream(kText, options)) {
      last = performance.now();
      if (first === 0) first = last;
      else bytes += chunk.bytes.length;
      if (last - first > 1000 * kSeconds) break;
    }
  }
  return { rate: { at: 1, bytesPerSecond: (1000 * bytes) / (last - first) }, firstByteMs: first - asked };
}

async function readRate(model: Model, at: number, aborted: AbortSignal): Promise<Rate> {
  const session = model.session({ checkpoints: 0 });
  const text = kText.repeat(Math.ceil(at / kText.length)).slice(0, at);
  try {
    let best = 0;
    for (const end = performance.now() + 1000 * kSeconds; performance.now() < end;) {
      await session.reset(); // a context may be full
      const start = performance.now();
      let read = 0;
      // Several, where one is shorter than the clock can tell.
      do {
        await session.feed(text, { signal: aborted });
        read += at;
      } while (performance.now() - start < kSlice && read < 4096);
      best = Math.max(best, read / (performance.now() - start));
    }
    return { at, bytesPerSecond: 1000 * best };
  } finally {
    await session.close();
  }
}

/** As lines to be pasted. */
export function reportOf({ limits, kernels, model, products, rates, firstByteMs }: Bench): string {
  const lines: [name: string, value: string][] = [
    ['browser', navigator.userAgent],
    ['processors', String(navigator.hardwareConcurrency)],
  ];
  if (limits) {
    lines.push(
      ['dot products alone', `${limits.dot.toFixed(1)} GMAC/s (${limits.instruction})`],
      ['memory', `${limits.memory.toFixed(1)} GB/s of 64 MB, ${limits.cache.toFixed(1)} GB/s of 16 KB`],
    );
  }
  for (const { name, gmacPerS, exact, inUse } of kernels?.kernels ?? []) {
    const rate = gmacPerS === null ? 'not measured' : `${gmacPerS.toFixed(1)} GMAC/s`;
    lines.push([`kernel ${name}`, `${rate}${exact ? '' : ', not exact here'}${inUse ? ', in use' : ''}`]);
  }
  if (firstByteMs !== null) lines.push([model, `first byte after ${firstByteMs.toFixed(0)} ms`]);
  for (const { at, bytesPerSecond } of rates) {
    const gmac = products === null ? '' : `, ${((bytesPerSecond * products) / 1e9).toFixed(1)} GMAC/s`;
    lines.push([
      at === 1 ? 'writing' : `reading ${at} at once`,
      `${Math.round(bytesPerSecond).toLocaleString('en')} bytes/s${gmac}`,
    ]);
  }
  const width = Math.max(...lines.map(([name]) => name.length));
  return ['TernLM, measured in a page', ...lines.map(([name, value]) => `${name.padEnd(width)}  ${value}`)].join('\n');
}
