// The shipped modules: integers only, small, and allowed under a strict Content-Security-Policy.
// SPDX-License-Identifier: MIT

import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';
import { describe, expect, test } from 'vitest';

const kRoot = new URL('../../', import.meta.url);
const kWasm = new URL('web/src/wasm/', kRoot);

/** Names of all instructions of a module, each as often as it occurs. */
function instructionsOf(wasm: URL): string[] {
  const tool = fileURLToPath(new URL('node_modules/wabt/bin/wasm-objdump', kRoot));
  const listing = execFileSync(process.execPath, [tool, '-d', fileURLToPath(wasm)], { maxBuffer: 1 << 28 }).toString();
  return [...listing.matchAll(/\| +([a-z][\w.]*)/g)].map((match) => match[1] ?? '');
}

/** Moving eight bytes through an f64 is no arithmetic; everything else on floating-point numbers counts. */
function isFloatArithmetic(name: string): boolean {
  return /(^|[._])f(32|64)(x[24])?([._]|$)/.test(name) && !/^f(32|64)\.(load|store|const)$/.test(name);
}

describe.each(['tern-simd', 'tern-relaxed', 'tern-threads'])('%s', (name) => {
  test('has no floating-point arithmetic', () => {
    const instructions = instructionsOf(new URL(`${name}.wasm`, kWasm));
    expect(instructions.length).toBeGreaterThan(5000); // the listing was understood
    expect(instructions.filter(isFloatArithmetic)).toEqual([]);
  });

  test('uses the vector instructions it is named for', () => {
    const instructions = new Set(instructionsOf(new URL(`${name}.wasm`, kWasm)));
    expect(instructions).toContain('v128.load');
    const relaxed = [...instructions].some((instruction) => instruction.includes('relaxed'));
    expect(relaxed).toBe(name !== 'tern-simd');
    expect(instructions.has('memory.atomic.wait32')).toBe(name === 'tern-threads');
  });

  test('fits the size budget', () => {
    const budget: { engine_gzip_bytes: number } = JSON.parse(readFileSync(new URL('tests/budget.json', kRoot), 'utf8'));
    const size = (file: string): number => gzipSync(readFileSync(new URL(file, kWasm)), { level: 9 }).length;
    expect(size(`${name}.wasm`) + size(`${name}.js`)).toBeLessThan(budget.engine_gzip_bytes);
  });

  test('needs no eval', () => {
    const script = readFileSync(new URL(`${name}.js`, kWasm), 'utf8');
    expect(script).not.toMatch(/new Function\b|\beval\(/);
    expect(script).not.toMatch(/new Worker\b/); // threads are the package's own workers, which bundlers can follow
  });
});

test('the detection of arithmetic sees arithmetic', () => {
  expect(
    ['f32.add', 'f64.convert_i32_s', 'f32x4.mul', 'i32.trunc_sat_f64_u', 'f64.promote_f32'].every(isFloatArithmetic),
  ).toBe(true);
  expect(['f64.load', 'f64.store', 'i32.add', 'i32x4.add', 'v128.load'].some(isFloatArithmetic)).toBe(false);
});
