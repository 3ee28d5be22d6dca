// What the engine's WebAssembly builds compute is what models/SPEC.md says, operation by operation, and ternlm/conformance
// tells when it is not.
// SPDX-License-Identifier: MIT

import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { beforeAll, describe, expect, test } from 'vitest';
import { load, type Model } from '../../web/src/index.js';
import { checkConformance } from '../../web/src/entries/conformance.js';
import { Operations, type Vector } from '../../web/src/entries/operations.js';
import { anyModel, modelOf, streams } from './golden.js';

const kRoot = new URL('../../', import.meta.url);

async function start(level: 'scalar' | 'simd128'): Promise<Operations> {
  return Operations.start(Uint8Array.from(readFileSync(new URL(`build/wasm/conformance/${level}.wasm`, kRoot))));
}

function vectorsOf(tier: string): Vector[] {
  const file = readFileSync(new URL(`tests/conformance/${tier}.json`, kRoot), 'utf8');
  const { vectors }: { vectors: Vector[] } = JSON.parse(file);
  return vectors;
}

const noPause = async (): Promise<void> => undefined;

/** Those of the vectors that are answered otherwise. */
async function wrong(operations: Operations, vectors: readonly Vector[]): Promise<string[]> {
  const names: string[] = [];
  for (const vector of vectors) {
    const { name, expected, found } = await operations.answer(vector, noPause);
    if (expected !== found) names.push(name);
  }
  return names;
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
  ] as const)('answers the vectors of %s', async (tier, least) => {
    const vectors = vectorsOf(tier);
    expect(vectors.length).toBeGreaterThan(least);
    expect(await wrong(operations, vectors)).toEqual([]);
  });
});

test('a vector with a wrong digest, first number or case is noticed', async () => {
  const operations = await start('scalar');
  const recipe = { name: 'log2', calls: 2, seed: 1, inputs: [{ from: 8, by: 0 }] };
  const [log2, twice] = [12884901888, '43a12205ddc126d60a07c80761a8b0d14426711d02f5d20182b1c4f9bad71130'];
  expect(await wrong(operations, [{ ...recipe, first: [log2], sha256: twice }])).toEqual([]);
  expect(await wrong(operations, [{ ...recipe, first: [1], sha256: twice }])).toHaveLength(1);
  expect(await wrong(operations, [{ ...recipe, first: [log2], sha256: '0'.repeat(64) }])).toHaveLength(1);
  expect(await wrong(operations, [{ name: 'log2', cases: [[[8], [log2]]] }])).toEqual([]);
  expect(await wrong(operations, [{ name: 'log2', cases: [[[8], [1]]] }])).toHaveLength(1);
  await expect(wrong(operations, [{ name: 'log3', cases: [[[8], [1]]] }])).rejects.toThrow('no operation log3');
});

test('the module computes the SHA-256 of bytes of any length', async () => {
  const operations = await start('simd128');
  for (const length of [0, 1, 7, 8, 63, 64, 65, 100_003]) {
    const bytes = Uint8Array.from({ length }, (_, i) => i * 31);
    expect(operations.sha256(bytes)).toBe(createHash('sha256').update(bytes).digest('hex'));
  }
});

// The streams themselves run wherever golden files do: engine.test.ts, load.test.ts, tests/browsers.
test.each(streams())('the model of %s is the one that the vectors are of', (_, { model, sha256 }) => {
  expect(createHash('sha256').update(modelOf({ model })).digest('hex')).toBe(sha256);
});

describe('checkConformance()', () => {
  const file = readFileSync(new URL('models/tinystories-3m5.gguf', kRoot));
  const stories = {
    source: Uint8Array.from(file),
    bytes: file.length,
    sha256: createHash('sha256').update(file).digest('hex'),
  };

  test('reports that every vector, and what the shipped model writes, is as specified', async () => {
    const progress: number[] = [];
    const onProgress = ({ done, total }: { done: number; total: number }): void => void progress.push(done / total);
    const report = await checkConformance(load, { model: stories, onProgress });
    expect(report.first).toBeNull();
    expect(report.equal).toBe(true);
    const counts = report.groups.map(({ name, total, equal }) => [name, total, equal]);
    const operations = vectorsOf('functions').length + vectorsOf('operations').length;
    const ofStreams = streams().reduce((sum, [, { generations }]) => sum + generations.length + 3, 0);
    expect(counts).toEqual([
      ['streams', ofStreams, ofStreams],
      ['operations', operations, operations],
      ['tinystories-3m5', 9, 9],
    ]);
    expect([progress[0], progress.at(-1)]).toEqual([0, 1]);
    expect(report.text).toMatch(/^TernLM conforms to specification 1\.0\n/);
    expect(report.text).toContain(`Node ${process.versions.node}`);
    expect(report.text).toMatch(/streams +\d+ of \d+ equal \(simd, kernel simd128, main thread, 1 thread\)/);
    expect(report.text).toContain(report.sha256);
  });

  test('names the first that differs, and where; a model that was open stays open', async () => {
    const model = await load(stories);
    const other: Model = Object.create(model, {
      info: { value: model.info },
      session: { value: () => model.session() },
      generate: {
        value: async (...call: Parameters<Model['generate']>) => {
          const result = await model.generate(...call);
          if (call[1]?.seed === 3) result.bytes[20] = 1;
          return result;
        },
      },
    });
    const report = await checkConformance(load, { model: other });
    expect(report.equal).toBe(false);
    expect(report.first?.name).toMatch(/^tinystories-3m5: tinystories-3m5: .*seed 3/);
    expect(report.first?.found.slice(40, 42)).toBe('01');
    expect(report.text).toMatch(/^TernLM DOES NOT CONFORM to specification 1\.0\n/);
    expect(report.text).toMatch(/first other +tinystories-3m5: .*seed 3.*, from character 4[01]\n/);
    expect(report.groups.map(({ total, equal }) => total - equal)).toEqual([0, 0, 1]);
    await model.generate('still there', { maxBytes: 1 });
    await model.close();
  });

  test('refuses what it does not know', async () => {
    const code = (error: unknown): unknown => Reflect.get(Object(error), 'code');
    const refused = async (run: Promise<unknown>): Promise<unknown> => run.then(() => 'nothing', code);
    const unknown = await load(anyModel());
    expect(await refused(checkConformance(load, { model: unknown }))).toBe('bad-option');
    expect(await refused(checkConformance(load, { model: { ...stories, sha256: '0'.repeat(64) } }))).toBe('bad-option');
    expect(await refused(checkConformance(load, { model: 7 as never }))).toBe('bad-option');
    expect(await refused(checkConformance(7 as never))).toBe('bad-option');
    expect(await refused(checkConformance(load, { thread: 2 } as never))).toBe('bad-option');
    await unknown.close();
  });

  test('ends when its signal says so, in any part of the work', async () => {
    for (const at of [0, 3, 120]) {
      const controller = new AbortController();
      const onProgress = ({ done }: { done: number }): void => {
        if (done === at) controller.abort(new Error('enough'));
      };
      await expect(checkConformance(load, { signal: controller.signal, onProgress })).rejects.toThrow('enough');
    }
  });
});
