// The bench around its measurements: options, rows and their shares of the limits, comparison of two runs, goals.
// SPDX-License-Identifier: MIT

import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, readdirSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';
import { needed } from '../../scripts/bench/build.js';
import { commands } from '../../scripts/bench/engines.js';
import { goals } from '../../scripts/bench/goals.js';
import { findModels } from '../../scripts/bench/models.js';
import { kHelp, kPublished, parse } from '../../scripts/bench/options.js';
import { save } from '../../scripts/bench/output.js';
import { peerPresets } from '../../scripts/bench/peers.js';
import { parseLines, toRows } from '../../scripts/bench/rows.js';
import { serve } from '../../scripts/bench/server.js';
import { compare, table } from '../../scripts/bench/table.js';

const kRoot = fileURLToPath(new URL('../..', import.meta.url));

type Line = Record<string, unknown>;

const kLimits = [
  { bench: 'limit_dot', level: 'simd128', gmac_per_s: 20 },
  { bench: 'limit_dot', level: 'relaxed', gmac_per_s: 40 },
  { bench: 'limit_read', memory: 'dram', gb_per_s: 8 },
];
const product = (rows: number, cols: number, level: string, rate: number, tokens = 1): Line => ({
  bench: tokens === 1 ? 'ternary_matvec' : 'ternary_matmul',
  level,
  rows,
  cols,
  tokens,
  gmac_per_s: rate,
});

describe('options', () => {
  test('without any, everything that does not take minutes is measured everywhere', () => {
    const options = parse([]);
    expect(options).toMatchObject({ browsers: ['chromium', 'firefox'], native: true, peers: false, milliseconds: 200 });
    expect(options.models).toEqual(['shipped', '3.5M', '20M']);
    expect(options.parts).not.toContain('dram');
    expect(parse(['--big']).models).toContain('1.3B');
    expect(parse(['--big']).parts).toContain('dram');
    expect(parse(['--full'])).toMatchObject({
      models: [...kPublished, 'BitNet-2B-4T'],
      parts: ['model', 'page', 'threads'],
    });
  });

  test('choose parts, browsers, models and time', () => {
    expect(
      parse(['--browsers', 'none', '--parts', 'limits,dram', '--models=a.gguf', '--milliseconds', '50']),
    ).toMatchObject({ browsers: [], parts: ['limits', 'dram'], models: ['a.gguf'], milliseconds: 50 });
    expect(parse(['--compare', 'a.json', 'b.json'])).toEqual({ compare: ['a.json', 'b.json'] });
    expect(parse(['--help', '--quick'])).toEqual({ help: true });
  });

  test.each([
    [['--fast'], /Unknown option '--fast'.*--help lists the options/],
    [['--rounds', '0'], /--rounds: expected a whole number from 1 to 100, found "0"/],
    [['--parts', 'all'], /--parts: expected some of limits, .*, found "all"/],
    [['--browsers', 'opera'], /--browsers: expected some of chromium, firefox, found "opera"/],
    [['--milliseconds', '5'], /--milliseconds: expected a whole number from 10 to 60000, found "5"/],
    [['--stream', 'long'], /--stream: expected a whole number/],
    [['model.gguf'], /expected options only, found "model.gguf"/],
    [['--compare', 'a.json'], /expected two JSON files of earlier runs, found 1/],
  ])('%j is refused with what was expected', (words, message) => {
    expect(() => parse(words)).toThrow(message);
  });

  test('are all in the help text', () => {
    for (const option of [
      '--browsers',
      '--no-native',
      '--peers',
      '--quick',
      '--rounds',
      '--compare',
      '--against',
      '--no-build',
      '--out',
      '--stream',
      '--big',
      '--full',
    ]) {
      expect(kHelp).toContain(option);
    }
  });

  test('a model that is neither a file nor a size is named', async () => {
    const note = (): void => undefined;
    await expect(findModels(kRoot, ['4B'], note)).rejects.toThrow(/expected a file, "shipped" or one of 3\.5M.*"4B"/);
    const [shipped] = await findModels(kRoot, ['shipped'], note);
    expect(shipped?.path).toMatch(/\.gguf$/);
  });

  test('become the words of one call for the kernels and one per model', () => {
    const models = [{ name: 'tiny', path: '/models/tiny.gguf' }];
    const calls = commands(parse(['--parts', 'limits,model', '--stream', '1000']), models);
    expect(calls.map(({ words }) => words.join(' '))).toEqual([
      '--parts limits --milliseconds 200',
      '--parts model,stream --model tiny --milliseconds 200 --stream-bytes 1000',
    ]);
    expect(commands(parse(['--parts', 'page']), models)).toEqual([]);
  });
});

describe('what is measured', () => {
  const models = [{ name: 'tiny', path: '/models/tiny.gguf' }];
  const files = (...words: string[]): string[] => needed(parse(words), models).map(({ file }) => file);

  test('is built first, and nothing else', () => {
    expect(files()).toEqual(['build/native/tern_bench', 'build/wasm/bench/bench-relaxed.js', 'dist/index.js']);
    expect(files('--browsers', 'none')).toEqual(['build/native/tern_bench']);
    expect(files('--no-native', '--parts', 'page')).toEqual(['dist/index.js']);
    expect(files('--no-native', '--parts', 'limits')).toEqual(['build/wasm/bench/bench-relaxed.js']);
    expect(needed(parse(['--parts', 'page', '--browsers', 'none']), models)).toEqual([]);
  });

  // A folder that is a checkout in nothing but its name.
  const bare = (...words: string[]): { status: number | null; stdout: string; stderr: string } => {
    const folder = mkdtempSync(join(tmpdir(), 'bench-'));
    const all = ['--browsers', 'none', '--parts', 'limits', '--against', folder, '--out', join(folder, 'x.json')];
    const call = [join(kRoot, 'scripts/bench/main.js'), ...all, ...words];
    return spawnSync(process.execPath, call, { encoding: 'utf8' });
  };

  test('and cannot be built ends the bench, with the command that mends it', () => {
    const { status, stdout, stderr } = bare();
    expect({ status, stdout }).toEqual({ status: 2, stdout: '' });
    expect(stderr).toMatch(/the native bench could not be built.*\n(.*\n)*By hand.*cmake --preset native && cmake/);
  });

  test('and is not there ends the bench, with the command that makes it', () => {
    const { status, stdout, stderr } = bare('--no-build');
    expect({ status, stdout }).toEqual({ status: 2, stdout: '' });
    expect(stderr).toMatch(/build\/native\/tern_bench is not there. Build it: cd '.*' && cmake --preset native/);
  });
});

describe('rows', () => {
  test('in cache show the share of the dot rate of their own instruction', () => {
    const rows = toRows('chromium', [
      ...kLimits,
      product(512, 512, 'simd128', 10),
      product(512, 512, 'relaxed_pairs', 30),
    ]);
    expect(rows.slice(3)).toMatchObject([
      { key: 'chromium | 512x512, simd128', value: 10, share: 0.5, limit: 'dot', unit: 'GMAC/s', higher: true },
      { key: 'chromium | 512x512, relaxed_pairs', share: 0.75 },
    ]);
  });

  test('of a model whose tokens are no bytes count tokens', () => {
    const decode = { bench: 'decode', model: 'm', level: 'relaxed', bytes_per_s: 5, gmac_per_s: 1, packed_bytes: 1 };
    const units = [256, 50257].map((vocabulary) => toRows('native', [{ ...decode, vocabulary }])[0]?.unit);
    expect(units).toEqual(['bytes/s', 'tokens/s']);
  });

  test('from DRAM show the share of the nearer limit', () => {
    const [fast, slow, tile] = toRows('native', [
      ...kLimits,
      product(16384, 16384, 'relaxed', 16),
      product(16384, 16384, 'simd128', 16),
      product(16384, 16384, 'relaxed', 30, 32),
    ]).slice(3);
    expect(fast).toMatchObject({ share: 0.5, limit: 'DRAM' }); // 4 weights a byte: at most 32 of 40
    expect(slow).toMatchObject({ share: 0.8, limit: 'dot' });
    expect(tile).toMatchObject({ share: 0.75, limit: 'dot' }); // 32 tokens share each byte
  });

  test('of many tokens are measured against additions from tables, where that limit was measured', () => {
    const table = { bench: 'limit_dot', level: 'table', gmac_per_s: 100 };
    const rows = toRows('native', [
      ...kLimits,
      table,
      product(512, 512, 'relaxed', 50, 32),
      product(8, 8, 'scalar', 1, 32),
    ]);
    expect(rows[4]).toMatchObject({ share: 0.5, limit: 'adding' });
    expect(rows[5]).not.toHaveProperty('limit');
  });

  test('of 64 MB have a limit of their own', () => {
    const near = { bench: 'limit_read', memory: '64 MB', gb_per_s: 9 };
    const [row] = toRows('native', [...kLimits, near, product(16384, 16384, 'relaxed', 18)]).slice(4);
    expect(row).toMatchObject({ share: 0.5, limit: 'DRAM' });
  });

  test('above the limit have no share, and the table says why', () => {
    const rows = toRows('native', [...kLimits, product(512, 512, 'relaxed', 41)]);
    expect(rows.at(-1)).toMatchObject({ limit: 'dot' });
    expect(rows.at(-1)).not.toHaveProperty('share');
    expect(table(rows)).toMatch(/512x512, relaxed +41 +GMAC\/s {2}limit not known: its loop was slower$/);
  });

  test('without measured limits have no share', () => {
    expect(toRows('native', [product(512, 512, 'relaxed', 1)])[0]).not.toHaveProperty('share');
  });

  test('of memory and of the shares of a step say that less is better', () => {
    const rows = toRows('native', [
      { bench: 'memory', model: 'm', packed_bytes: 1000, peak_bytes: 1100 },
      { bench: 'breakdown', of: 'decode', model: 'm', products: 0.8, quantize: 0.1, rescale: 0.05, other: 0.05 },
    ]);
    expect(rows[0]?.value).toBeCloseTo(10);
    expect(rows.map(({ higher }) => higher)).toEqual([false, false, true, false, false, false]);
  });

  test('of several rounds are the best of them, beside the best limit', () => {
    const slow = { bench: 'limit_dot', level: 'relaxed', gmac_per_s: 20 };
    const rows = toRows('native', [
      slow,
      product(512, 512, 'relaxed', 30),
      ...kLimits,
      product(512, 512, 'relaxed', 10),
    ]);
    expect(rows.filter(({ what }) => what.includes('relaxed'))).toMatchObject([
      { what: 'limit: dot products, relaxed', value: 40 },
      { what: '512x512, relaxed', value: 30, share: 0.75 },
    ]);
    expect(rows.find(({ what }) => what === '512x512, relaxed')?.spread).toBeCloseTo(20 / 30);
    const memory = (peak: number): Line => ({ bench: 'memory', model: 'm', packed_bytes: 1000, peak_bytes: peak });
    expect(toRows('native', [memory(3000), memory(2000)])[1]).toMatchObject({ unit: 'MB', value: 0.002 });
  });

  test('have keys that are unique, and a measurement nobody knows is an error', () => {
    const native = [...kLimits, product(512, 512, 'relaxed', 1), product(512, 512, 'relaxed', 1, 32)];
    const keys = toRows('native', native).map(({ key }) => key);
    expect(new Set(keys).size).toBe(keys.length);
    expect(() => toRows('native', [{ bench: 'new' }])).toThrow(/does not know a measurement "new"/);
  });

  test('come from the lines that are JSON', () => {
    expect(parseLines('{"a":1}\nwarning\n{"a":2}\n')).toEqual([{ a: 1 }, { a: 2 }]);
  });

  test('are printed aligned, with value and share', () => {
    const lines = table(toRows('native', [...kLimits, product(2048, 2048, 'relaxed', 30)])).split('\n');
    expect(lines.at(-1)).toMatch(/^native {2}2048x2048, relaxed +30 {2}GMAC\/s {2}75 % of dot$/);
    expect(new Set(lines.slice(1).map((line) => line.indexOf('G')))).toHaveProperty('size', 1);
  });
});

describe('comparison', () => {
  const row = (key: string, value: number, higher = true): Line => ({
    key,
    engine: 'native',
    what: key,
    value,
    unit: 'x',
    higher,
  });
  const result = (rows: Line[], processor = 'A'): Line => ({ machine: { processor }, rows });

  test('prints before, after, the change and whether it is better', () => {
    const before = result([row('speed', 100), row('memory', 100, false), row('same', 100), row('gone', 1)]);
    const after = result([row('speed', 80), row('memory', 80, false), row('same', 101), row('new', 1)]);
    const [, speed, memory, same, ...rest] = compare(before, after).split('\n');
    expect(speed).toMatch(/speed +100 +80 +x +-20\.0 % +worse$/);
    expect(memory).toMatch(/memory +100 +80 +x +-20\.0 % +better$/);
    expect(same).toMatch(/same +100 +101 +x +\+1\.0 %$/);
    expect(rest).toEqual(['only before: gone', 'only after: new']);
  });

  test('judges no change that is smaller than the rounds differ', () => {
    const before = result([
      { ...row('calm', 100), spread: 0.01 },
      { ...row('wild', 100), spread: 0.3 },
    ]);
    const after = result([row('calm', 104), row('wild', 104)]);
    const [, calm, wild] = compare(before, after).split('\n');
    expect(calm).toMatch(/\+4\.0 % +better$/);
    expect(wild).toMatch(/\+4\.0 %$/);
  });

  test('of a model with another kernel is one row, not two that are only on one side', () => {
    const decode = (level: string, rate: number): Line[] => [
      { bench: 'decode', model: 'm', level, bytes_per_s: rate, gmac_per_s: 1, packed_bytes: 1 },
    ];
    const text = compare(
      result(toRows('native', decode('relaxed', 100))),
      result(toRows('native', decode('relaxed_nested_u', 200))),
    );
    expect(text).toMatch(/decode, m, relaxed_nested_u \(before: relaxed\) +100 +200 .*better$/);
    expect(text).not.toContain('only');
  });

  test('says when the machines differ', () => {
    expect(compare(result([], 'A'), result([], 'B'))).toMatch(/^different machines: A and B/);
  });

  test('of files, from the command line, and an error for what is no result', () => {
    const folder = mkdtempSync(join(tmpdir(), 'bench-'));
    const write = (name: string, content: Line): string => {
      writeFileSync(join(folder, name), JSON.stringify(content));
      return join(folder, name);
    };
    const a = write('a.json', result([row('speed', 1)]));
    const b = write('b.json', result([row('speed', 2)]));
    const c = write('c.json', { other: 1 });
    const call = (...words: string[]): { status: number | null; stdout: string; stderr: string } =>
      spawnSync(process.execPath, [join(kRoot, 'scripts/bench/main.js'), ...words], { encoding: 'utf8' });
    expect(call('--compare', a, b).stdout).toMatch(/speed +1 +2 +x +\+100\.0 % +better/);
    expect(call('--compare', a, c)).toMatchObject({
      status: 2,
      stderr: `bench: ${c}: expected a result of npm run bench\n`,
    });
    expect(call('--help').stdout).toContain('--compare BEFORE.json AFTER.json');
    expect(call('--nonsense')).toMatchObject({ status: 2, stdout: '' });
  });

  test('that could not be written whole is a failure', () => {
    const folder = mkdtempSync(join(tmpdir(), 'bench-'));
    const many = Array.from({ length: 1000 }, (_, i) => row(`speed ${i}`, i));
    writeFileSync(join(folder, 'a.json'), JSON.stringify(result(many)));
    const into = (
      where: string,
      words = '--compare a.json a.json',
      before = '',
    ): { status: number | null; stderr: string } =>
      spawnSync(
        'bash',
        ['-c', `${before} "$0" "$1" ${words} ${where}`, process.execPath, join(kRoot, 'scripts/bench/main.js')],
        {
          cwd: folder,
          encoding: 'utf8',
        },
      );
    const full = { status: 2, stderr: 'bench: standard output: ENOSPC: no space left on device, write\n' };
    expect(into('>/dev/full')).toMatchObject(full);
    expect(into('>/dev/full', '--help')).toMatchObject(full);
    expect(into('>table', '--compare a.json a.json', 'ulimit -f 8;')).toMatchObject({
      status: 2, // after a part of it
      stderr: 'bench: standard output: EFBIG: file too large, write\n',
    });
    expect(into('| true; exit ${PIPESTATUS[0]}')).toMatchObject({ status: 141, stderr: '' });
  });

  test('stays as it was until the new one is whole', () => {
    const file = join(mkdtempSync(join(tmpdir(), 'bench-')), 'bench.json');
    save(file, 'old');
    expect(() => save(join(dirname(file), 'none', 'a'), 'new')).toThrow(/none.a: ENOENT/);
    expect(() => save('/dev/full', 'new')).toThrow('/dev/full: ENOSPC: no space left on device, write');
    save('/dev/null', 'new');
    expect(statSync('/dev/null').isFile()).toBe(false);
    save(file, 'new');
    expect([readFileSync(file, 'utf8'), readdirSync(dirname(file))]).toEqual(['new', ['bench.json']]);
  });
});

test('goals are computed from the rows of a run, and left out where they were not measured', () => {
  const line = (bench: string, rate: number): Line => ({
    bench,
    model: 'random 20M',
    level: 'relaxed',
    bytes_per_s: rate,
    gmac_per_s: 1,
    packed_bytes: 1,
  });
  const ours = toRows('chromium', [
    ...kLimits,
    product(2048, 2048, 'relaxed', 36),
    line('decode', 300),
    line('prefill', 100),
  ]);
  const peer = { bench: 'peer', model: 'random 20M', type: 'TQ2_0', threads: 1 };
  const theirs = toRows('llama.cpp', [
    { ...peer, what: 'decode', tokens_per_s: 200 },
    { ...peer, what: 'prefill', tokens_per_s: 100 },
  ]);
  expect(goals([...ours, ...theirs]).map(({ value, reached }) => [value, reached])).toEqual([
    [0.9, true],
    [1.5, true],
    [1, false],
  ]);
  expect(goals(toRows('native', kLimits))).toEqual([]);
});

const kPage = {
  bench: 'page',
  threads: 1,
  load_ms: 1,
  still_ms: 1,
  first_byte_ms: 1,
  first_of_100_ms: 1,
  write_bytes_per_s: 1,
  read_bytes_per_s: 1,
};

test('a published model is held to its weights, to single steps, and to the peer with its products', () => {
  const model = 'MMfreeLM-370M';
  const speeds = { model, level: 'relaxed', bytes_per_s: 30, gmac_per_s: 1, packed_bytes: 100, vocabulary: 32000 };
  const rows = [
    ...toRows('convert.py', [{ bench: 'convert', model, seconds: 8, processor_seconds: 7, peak_bytes: 4e8 }]),
    ...toRows('chromium', [
      { bench: 'decode', ...speeds },
      { bench: 'memory', model, packed_bytes: 100, peak_bytes: 109 },
      { ...kPage, model, vocabulary: 32000, first_of_100_ms: 2000, write_bytes_per_s: 25 },
    ]),
    ...toRows('llama.cpp', [{ bench: 'peer', what: 'decode', model, type: 'TQ2_0', threads: 1, tokens_per_s: 15 }]),
  ];
  expect(rows.slice(0, 3).map(({ what, value, unit }) => [what, value, unit])).toEqual([
    [`conversion, ${model}`, 8, 's'],
    [`conversion, ${model}: processor`, 7, 's'],
    [`conversion, ${model}: memory`, 400, 'MB'],
  ]);
  expect(rows.find(({ what }) => what === `package writes, ${model}`)?.unit).toBe('tokens/s');
  expect(goals(rows).map(({ found }) => found)).toEqual(['9 % (reached)', '50.0 (missed)', '2.00 x (reached)']);
});

test('what an older checkout does not measure is no row', () => {
  const rows = toRows('chromium', [{ bench: 'page', model: 'm', threads: 1, load_ms: 5 }]);
  expect(rows.map(({ what }) => what)).toEqual(['load, m']);
});

test('the peers of published models have their vocabulary, and there are none of BitMamba-2', () => {
  const models = ['MMfreeLM-1.3B', 'BitMamba-2-1B', 'random 20M'].map((name) => ({ name, path: '' }));
  expect(peerPresets(models)).toEqual([
    { preset: '20M', name: 'random 20M', pieces: '' },
    { preset: '1.3B', name: 'MMfreeLM-1.3B', pieces: '32000' },
  ]);
});

test('the package at 1.3 B is held to the engine alone, and its aborts to 20 ms', () => {
  const model = 'random 1.3B';
  const page = { ...kPage, model };
  const rows = toRows('chromium', [
    { bench: 'prefill', model, level: 'relaxed', bytes_per_s: 100, gmac_per_s: 1, packed_bytes: 1 },
    {
      ...page,
      read_bytes_per_s: 95,
      aborts: { reading: { median: 4, most: 19 }, writing: { median: 4, most: 21 } },
    },
  ]);
  expect(rows.filter(({ what }) => what.startsWith('abort')).map(({ what, value }) => [what, value])).toEqual([
    ['abort while reading, random 1.3B: median', 4],
    ['abort while reading, random 1.3B: most', 19],
    ['abort while writing, random 1.3B: median', 4],
    ['abort while writing, random 1.3B: most', 21],
  ]);
  expect(goals(rows).map(({ found, reached }) => [found, reached])).toEqual([
    ['95 % (reached)', true],
    ['19.0 ms (reached)', true],
    ['21.0 ms (missed)', false],
  ]);
});

test('the bench page is served isolated, files by number, nothing outside its folders', async () => {
  const server = await serve({ web: join(kRoot, 'web') }, [join(kRoot, 'LICENSE')]);
  try {
    const license = await fetch(`${server.origin}/files/0`);
    expect(await license.text()).toContain('MIT');
    expect(license.headers.get('cross-origin-embedder-policy')).toBe('require-corp');
    expect((await fetch(`${server.origin}/web/tsconfig.lib.json`)).status).toBe(200);
    for (const path of ['/web/../package.json', '/files/1', '/files/..', '/other/x', '/web/%2e%2e/package.json']) {
      expect((await fetch(server.origin + path)).status, path).toBe(404);
    }
  } finally {
    await server.close();
  }
});
