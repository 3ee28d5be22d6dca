// Every WebAssembly build that Node can run computes what the golden files say, bit for bit.
// SPDX-License-Identifier: MIT

import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { Engine, type EngineModel, type ModuleFactory } from '../../web/src/engine/engine.js';
import { toOrder } from '../../web/src/api/options.js';
import { sumOf } from '../../web/src/api/scores.js';
import { kBytes } from '../../web/src/codec.js';
import type { MainModule } from '../../web/src/wasm/tern-simd.js';
import { anyModel, fromHex, goldens, modelOf, toHex } from './golden.js';

const kRoot = new URL('../../', import.meta.url);

// Relaxed SIMD runs in the browsers' tests: Node 20 computes some relaxed products wrongly.
const kBuilds = [
  ['simd128', 'web/src/wasm/tern-simd'],
  ['scalar', 'build/wasm/tern-scalar'],
] as const;

const kFlat = { stages: 0, codec: kBytes, turnEnd: null };

async function startBuild(path: string): Promise<Engine> {
  const script: { default: ModuleFactory } = await import(new URL(`${path}.js`, kRoot).href);
  const wasm = Uint8Array.from(readFileSync(new URL(`${path}.wasm`, kRoot)));
  return Engine.fromWasm(script.default, wasm, 'simd', '');
}

/** The module itself, without what engine.ts takes care of. */
async function startRaw(path: string): Promise<MainModule> {
  const script: { default: ModuleFactory } = await import(new URL(`${path}.js`, kRoot).href);
  const compiled = new WebAssembly.Module(readFileSync(new URL(`${path}.wasm`, kRoot)));
  const module: unknown = await script.default({
    instantiateWasm(imports, done) {
      void WebAssembly.instantiate(compiled, imports).then((instance) => done(instance, compiled));
      return {};
    },
  });
  return module as MainModule;
}

function loadInto(engine: Engine, file: Uint8Array, chunkBytes = file.length): EngineModel {
  const loader = engine.newLoader(null);
  for (let at = 0; at < file.length; at += chunkBytes) loader.push(file.subarray(at, at + chunkBytes));
  const model = loader.finish();
  loader.close();
  return model;
}

describe.each(kBuilds)('the %s build', (kernel, path) => {
  test('runs the kernel it was built for', async () => {
    expect((await startBuild(path)).info.kernel).toBe(kernel);
  });

  test('measures its kernels, and only reports when asked for no rounds', async () => {
    const engine = await startBuild(path);
    const names = kernel === 'scalar' ? ['scalar'] : ['scalar', kernel];
    const idle = engine.probe(0);
    expect(idle.kernels).toEqual(names.map((name) => ({ name, exact: true, gmacPerS: null, inUse: name === kernel })));
    expect(idle.tables.gmacPerS).toBeNull();
    const measured = engine.probe(1).kernels;
    expect(measured.map(({ name }) => name)).toEqual(names);
    expect(measured.every(({ gmacPerS }) => (gmacPerS ?? 0) > 0)).toBe(true);
    expect(measured.filter(({ inUse }) => inUse).map(({ name }) => name)).toEqual([kernel]);
    expect(engine.info.kernel).toBe(kernel);
  });

  test.each(goldens())('gives the bytes and bits of %s', async (_, golden) => {
    const model = loadInto(await startBuild(path), modelOf(golden));
    expect(model.info.fingerprint).toBe(golden.fingerprint ?? model.info.fingerprint);
    const flat = model.info.stages === 0;
    const traits = golden.prompt_tokens ? { ...kFlat, codec: { ...kBytes, size: model.info.vocabulary.size } } : kFlat;
    for (const { options, bytes, tokens, finish, boundaries } of golden.generations) {
      const session = model.open();
      session.feed(golden.prompt_tokens ?? fromHex(golden.prompt));
      const { sampling, maxTokens } = toOrder(options, traits);
      session.start(sampling, maxTokens);
      const written = session.generate(maxTokens, true);
      expect({ options, tokens: Array.from(written.tokens), finish: session.finish }).toEqual({
        options,
        tokens: tokens ?? Array.from(fromHex(bytes)),
        finish: finish.replaceAll('_', '-'),
      });
      expect(toHex(written.boundaries ?? new Uint8Array(0))).toBe(
        flat ? '00'.repeat(written.tokens.length) : boundaries,
      );
      session.close();
    }
    const session = model.open();
    const { text, tokens, bits_q32, bytes, ...counts } = golden.score;
    const score = sumOf(session.score(tokens ?? fromHex(text)));
    const bits = Number(bits_q32) / 2 ** 32;
    expect(score).toMatchObject({ ...counts, bits, tokens: bytes ?? score.tokens });
    session.close();
    model.close();
  });
});

describe('the module', () => {
  test.each(['feed', 'generate'] as const)('stops before %s writes masks beyond its buffer', async (call) => {
    const raw = await startRaw('web/src/wasm/tern-simd');
    const view = (size: number): Uint8Array<ArrayBuffer> => raw.buffer(size);
    const put = (bytes: Uint8Array): number => (view(bytes.length).set(bytes), bytes.length);
    const [loader, model, session] = [new raw.Loader(), new raw.LoadedModel(), new raw.Conversation()];
    const file = anyModel();
    loader.push(put(file));
    loader.finish(model);
    session.open(model);
    const count = Math.floor(file.length / 4); // tokens that the buffer has room for, but not for their masks
    const { buffer, byteOffset } = view(0);
    const behind = (): string => toHex(new Uint8Array(buffer, byteOffset + file.length + 4, count - 8));
    const before = behind(); // the model, among others
    expect(before).not.toMatch(/^0*$/);
    expect(() => session[call](count, 1n)).toThrow(WebAssembly.RuntimeError);
    expect(behind()).toBe(before);
  });
});

describe('the engine', () => {
  test('makes the same model from chunks of any size', async () => {
    const engine = await startBuild('web/src/wasm/tern-simd');
    const file = anyModel();
    const whole = loadInto(engine, file).info;
    for (const size of [1000, 4096, 65_537]) expect(loadInto(engine, file, size).info).toEqual(whole);
  });

  test('writes the same bytes whatever the slices', async () => {
    const model = loadInto(await startBuild('web/src/wasm/tern-simd'), anyModel());
    const prompt = Uint8Array.from({ length: 300 }, (_, i) => (i * 13) & 0xff);
    const run = (readSize: number, writeSize: number): string => {
      const session = model.open();
      for (let at = 0; at < prompt.length; at += readSize) session.feed(prompt.subarray(at, at + readSize));
      session.start(toOrder({ seed: 3 }, kFlat).sampling, 200);
      let hex = '';
      while (session.finish === null) hex += toHex(session.generate(writeSize, false).tokens);
      session.close();
      return hex;
    };
    const whole = run(300, 200);
    for (const [readSize, writeSize] of [
      [1, 1],
      [17, 3],
      [64, 64],
      [299, 199],
    ] as const) {
      expect(run(readSize, writeSize)).toBe(whole);
    }
  });

  test('gives back the memory of models and sessions', async () => {
    const engine = await startBuild('web/src/wasm/tern-simd');
    const file = anyModel();
    const cycle = (): void => {
      const model = loadInto(engine, file);
      const sessions = Array.from({ length: 20 }, () => model.open());
      for (const session of sessions) {
        session.feed(file.subarray(0, 50));
        session.save();
        session.close();
      }
      model.close();
    };
    cycle();
    const before = engine.memoryBytes;
    for (let i = 0; i < 100; i++) cycle(); // a leak of one state a cycle would need several megabytes
    expect(engine.memoryBytes).toBe(before);
  });

  test('refuses a damaged file with an error and stays usable', async () => {
    const engine = await startBuild('web/src/wasm/tern-simd');
    const file = anyModel();
    const wrongMagic = file.slice();
    wrongMagic[0] = 0;
    expect(() => loadInto(engine, wrongMagic)).toThrow(expect.objectContaining({ code: 'bad-file' }));
    expect(() => loadInto(engine, file.subarray(0, file.length - 1))).toThrow(
      expect.objectContaining({ code: 'bad-file' }),
    );
    expect(() => loadInto(engine, new Uint8Array(0))).toThrow(expect.objectContaining({ code: 'bad-file' }));
    expect(loadInto(engine, file).info.architecture).toBe('hgrnbit');
  });

  test('restores what it saved and refuses what it did not save', async () => {
    const model = loadInto(await startBuild('web/src/wasm/tern-simd'), anyModel());
    const a = model.open();
    a.feed(Uint8Array.of(79, 110, 99, 101));
    const saved = a.save();
    const b = model.open();
    b.restore(saved);
    expect(b.position).toBe(4);
    for (const session of [a, b]) session.start(toOrder({ seed: 1 }, kFlat).sampling, 50);
    expect(toHex(a.generate(50, false).tokens)).toBe(toHex(b.generate(50, false).tokens));
    expect(() => b.restore(saved.subarray(1))).toThrow(expect.objectContaining({ code: 'bad-state' }));
    saved[saved.length - 1] = (saved.at(-1) ?? 0) ^ 1;
    expect(() => b.restore(saved)).toThrow(expect.objectContaining({ code: 'bad-state' }));
  });
});
