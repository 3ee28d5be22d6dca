// A file of the reader's own, as the model sees it: what it costs along its way, beside compressors; and compressed.
// SPDX-License-Identifier: MIT

import { signal } from '@preact/signals';
import type { Model } from 'ternlm';
import brotli from './brotli.ts?worker&url';
import { confined } from './confined.js';

/** Of a file no more is read: what comes after it would take minutes. */
export const kMostBytes = 1_000_000;

const kBuckets = 240; // of a curve: about two pixels each
const kLeastBucket = 16;
const kShownEvery = 120; // milliseconds

/** What is known of the file so far. */
export interface Measured {
  readonly name: string;
  /** The file's own size; `bytes` is what is read of it. */
  readonly size: number;
  readonly bytes: Uint8Array<ArrayBuffer>;
  /** Who reads it. */
  readonly model: string;
  readonly fingerprint: string;
  readonly state: 'reading' | 'stopped' | 'read' | 'failed';
  readonly problem: string;
  /** Bytes that were scored, and the bits that they cost. */
  readonly done: number;
  readonly bits: number;
  /** Bits a byte of each stretch of `step` bytes. */
  readonly curve: readonly number[];
  readonly step: number;
  readonly bytesPerSecond: number;
  /** Of those bytes; null while unknown, or where this browser cannot. */
  readonly gzip: number | null;
  readonly brotli: number | null;
}

/** The file in the model's own words. */
export interface Packed {
  readonly state: 'compressing' | 'checking' | 'equal' | 'different' | 'failed';
  readonly bytes: Uint8Array<ArrayBuffer> | null;
  readonly problem: string;
  readonly seconds: number;
}

export const measured = signal<Measured | null>(null);
export const packed = signal<Packed | null>(null);

let working = new AbortController();

export function stopMeasuring(): void {
  working.abort();
}

/** Has the model read the beginning of a file; whatever it was at before ends. */
export async function measure(model: Model, name: string, data: Blob): Promise<void> {
  working.abort();
  const mine = (working = new AbortController());
  packed.value = null;
  const bytes = new Uint8Array(await data.slice(0, kMostBytes).arrayBuffer());
  const { name: reader, fingerprint } = model.info;
  const step = Math.max(kLeastBucket, Math.ceil(bytes.length / kBuckets));
  const about = { name, size: data.size, bytes, model: reader, fingerprint, step };
  const none = { done: 0, bits: 0, curve: [], bytesPerSecond: 0, gzip: null, brotli: null, problem: '' };
  const set = (change: Partial<Measured>): void => {
    if (mine === working && measured.value) measured.value = { ...measured.value, ...change };
  };
  measured.value = { ...about, ...none, state: 'reading' };
  void others(bytes).then((sizes) => mine.signal.aborted || set(sizes));

  const [bits, sizes]: [number[], number[]] = [[], []];
  let [done, all] = [0, 0];
  const started = performance.now();
  const show = (): void =>
    set({
      done,
      bits: all,
      curve: bits.map((cost, i) => cost / (sizes[i] ?? 1)),
      bytesPerSecond: (1000 * done) / (performance.now() - started),
    });
  try {
    let shown = started;
    for await (const token of model.scoreStream(bytes, { signal: mine.signal })) {
      const bucket = Math.floor(done / step);
      bits[bucket] = (bits[bucket] ?? 0) + token.bits;
      sizes[bucket] = (sizes[bucket] ?? 0) + token.bytes.length;
      done += token.bytes.length;
      all += token.bits;
      if (performance.now() - shown < kShownEvery) continue;
      shown = performance.now();
      show();
    }
    show();
    set({ state: 'read' });
  } catch (error) {
    show();
    if (!mine.signal.aborted) return set({ state: 'failed', problem: messageOf(error) });
    // What was read is compared with the same of the others.
    set({ state: 'stopped', gzip: null, brotli: null });
    if (done > 0) set(await others(bytes.slice(0, done)));
  }
}

/** What compressors without a model make of it. */
async function others(bytes: Uint8Array<ArrayBuffer>): Promise<Pick<Measured, 'gzip' | 'brotli'>> {
  const [gzip, other] = await Promise.all([gzipSize(bytes), brotliSize(bytes)].map((size) => size.catch(() => null)));
  return { gzip: gzip ?? null, brotli: other ?? null };
}

async function gzipSize(bytes: Uint8Array<ArrayBuffer>): Promise<number> {
  const stream = new Blob([bytes]).stream().pipeThrough(new CompressionStream('gzip'));
  return (await new Response(stream).arrayBuffer()).byteLength;
}

async function brotliSize(bytes: Uint8Array<ArrayBuffer>): Promise<number> {
  const worker = new Worker(confined(brotli), { type: 'module' });
  try {
    return await new Promise((resolve, reject) => {
      worker.onerror = () => reject(new Error('the compressor could not be loaded'));
      worker.onmessage = ({ data }: MessageEvent<number | 'ready'>) => {
        if (data === 'ready') worker.postMessage(bytes);
        else resolve(data);
      };
    });
  } finally {
    worker.terminate();
  }
}

/** Compresses what was read of the file, and finds it again. */
export async function pack(model: Model, { bytes }: Measured): Promise<void> {
  const started = performance.now();
  const { signal: aborted } = working;
  const set = (change: Partial<Packed>): void => {
    const seconds = (performance.now() - started) / 1000;
    if (packed.value) packed.value = { ...packed.value, ...change, seconds };
  };
  packed.value = { state: 'compressing', bytes: null, problem: '', seconds: 0 };
  try {
    const small = await model.compress(bytes.slice(), { signal: aborted });
    set({ state: 'checking', bytes: small });
    const back = await model.decompress(small.slice(), { signal: aborted });
    const isEqual = back.length === bytes.length && back.every((byte, i) => byte === bytes[i]);
    set({ state: isEqual ? 'equal' : 'different' });
  } catch (error) {
    if (aborted.aborted) packed.value = null;
    else set({ state: 'failed', problem: messageOf(error) });
  }
}

export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
