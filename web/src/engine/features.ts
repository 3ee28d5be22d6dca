// What this browser, or what else runs the package, offers the engine: vectors, threads, memory, a clock.
// SPDX-License-Identifier: MIT

import { runtimeName } from '../context.js';
import type { Threads } from './types.js';

const kMostAutomatic = 8; // threads: beyond, memory is the limit, and small models stop gaining earlier

/** How many there can be at most. */
export function mostThreads(wanted: Threads): number {
  return wanted === 'auto' ? Math.min(navigator.hardwareConcurrency, kMostAutomatic) : wanted;
}

/** Empty when more than one thread may be tried. */
export function whyNotThreads(wanted: Threads): string {
  if (wanted === 1) return '';
  if (typeof document !== 'undefined')
    return 'the engine runs on the page’s own thread, which must not wait for others';
  if (typeof Worker === 'undefined') return 'there are no workers here';
  if (!globalThis.crossOriginIsolated || typeof SharedArrayBuffer === 'undefined') {
    return (
      'the page is not cross-origin isolated: that takes the response headers Cross-Origin-Opener-Policy: same-origin ' +
      'and Cross-Origin-Embedder-Policy: require-corp'
    );
  }
  return mostThreads(wanted) > 1 ? '' : 'this machine has one processor';
}

const kInitialPages = 64; // INITIAL_MEMORY in cpp/bindings/CMakeLists.txt
const kMostPages = [32768, 16384, 8192, 4096]; // of 64 KiB; some devices set aside all of it at once

/** Grows with the model. The engine alone looks at it from JavaScript, so that growth slows nobody's views. */
export function sharedMemory(): WebAssembly.Memory {
  let failure: unknown;
  for (const maximum of kMostPages) {
    try {
      return new WebAssembly.Memory({ initial: kInitialPages, maximum, shared: true });
    } catch (error) {
      failure = error;
    }
  }
  throw failure;
}

/** Whether the clock moves in steps of at most 2 ms; some browsers are set to 16 or 100. */
export function clockIsFine(): boolean {
  const next = (from: number): number => {
    for (let i = 0; i < 1e5; i++) {
      const now = performance.now();
      if (now !== from) return now;
    }
    return Infinity;
  };
  const edge = next(performance.now());
  return next(edge) - edge <= 2;
}

export function hasSimd(): boolean {
  return WebAssembly.validate(kSimdProbe);
}

/** Empty when relaxed SIMD may be tried. Node 20's first-tier compiler returns wrong sums, so only browsers try it. */
export function whyNotRelaxed(): string {
  const runtime = runtimeName();
  if (runtime) return `${runtime} runs the SIMD128 variant`;
  return WebAssembly.validate(kRelaxedProbe) ? '' : 'this browser has no relaxed SIMD';
}

/** A module whose one function returns a vector: three zero vectors, then `operation` on them. */
function probe(operands: number, operation: readonly number[]): Uint8Array<ArrayBuffer> {
  const zero = [0x41, 0x00, 0xfd, 0x0f]; // i32.const 0, i8x16.splat
  const body = [0x00, ...Array.from({ length: operands }, () => zero).flat(), ...operation, 0x0b];
  const header = [0x00, 0x61, 0x73, 0x6d, 0x01, 0x00, 0x00, 0x00];
  const types = [0x01, 0x05, 0x01, 0x60, 0x00, 0x01, 0x7b]; // () -> v128
  return Uint8Array.from([
    ...header,
    ...types,
    0x03,
    0x02,
    0x01,
    0x00,
    0x0a,
    body.length + 2,
    0x01,
    body.length,
    ...body,
  ]);
}

const kSimdProbe = probe(1, [0xfd, 0x62]); // i8x16.popcnt
const kRelaxedProbe = probe(3, [0xfd, 0x93, 0x02]); // i32x4.relaxed_dot_i8x16_i7x16_add_s
