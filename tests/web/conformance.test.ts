// What the engine's WebAssembly builds compute is what models/SPEC.md says, operation by operation.
// SPDX-License-Identifier: MIT

import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { beforeAll, describe, expect, test } from 'vitest';
import { Operations, type Level, type Script, type Vector } from './conformance.js';
import { modelOf, streams } from './golden.js';

const kRoot = new URL('../../', import.meta.url);

async function start(level: Level): Promise<Operations> {
  const { href } = new URL(`build/wasm/conformance/${level}`, kRoot);
  const script: Script = await import(`${href}.js`);
  return Operations.start(script, readFileSync(new URL(`${href}.wasm`)));
}

function vectorsOf(tier: string): Vector[] {
  const file = readFileSync(new URL(`tests/conformance/${tier}.json`, kRoot), 'utf8');
  const { vectors }: { vectors: Vector[] } = JSON.parse(file);
  return vectors;
}

// Relaxed SIMD runs in the browsers' tests, as in engine.test.ts.
describe.each(['scalar', 'simd128'] as const)('the %s build', (level) => {
  let operations: Operations;

  beforeAll(async () => {
    operations = await start(level);
  });

  test('runs the kernel it was built for', () => {
    expect(operations.kernel).toBe(level);
  });

  test.each([
    ['functions', 30],
    ['operations', 100],
  ] as const)('answers the vectors of %s', (tier, least) => {
    const vectors = vectorsOf(tier);
    expect(vectors.length).toBeGreaterThan(least);
    expect(operations.wrong(vectors)).toEqual([]);
  });
});

test('a vector with a wrong digest, first number or case is noticed', async () => {
  const operations = await start('scalar');
  const recipe = { name: 'log2', calls: 2, seed: 1, inputs: [{ from: 8, by: 0 }] };
  const [log2, twice] = [12884901888, '43a12205ddc126d60a07c80761a8b0d14426711d02f5d20182b1c4f9bad71130'];
  expect(operations.wrong([{ ...recipe, first: [log2], sha256: twice }])).toEqual([]);
  expect(operations.wrong([{ ...recipe, first: [1], sha256: twice }])).toHaveLength(1);
  expect(operations.wrong([{ ...recipe, first: [log2], sha256: '0'.repeat(64) }])).toHaveLength(1);
  expect(operations.wrong([{ name: 'log2', cases: [[[8], [log2]]] }])).toEqual([]);
  expect(operations.wrong([{ name: 'log2', cases: [[[8], [1]]] }])).toHaveLength(1);
  expect(() => operations.wrong([{ name: 'log3', cases: [[[8], [1]]] }])).toThrow('there is no operation log3');
});

// The streams themselves run wherever golden files do: engine.test.ts, load.test.ts, tests/browsers.
test.each(streams())('the model of %s is the one that the vectors are of', (_, { model, sha256 }) => {
  expect(createHash('sha256').update(modelOf({ model })).digest('hex')).toBe(sha256);
});
