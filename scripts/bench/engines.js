// Measures our engine: the native bench, and in a browser the bench page with the same code and with the shipped package.
import { existsSync } from 'node:fs';
import { missing, open } from '../../tests/browsers/drivers.js';
import { largestDescendant, run } from './processes.js';
import { parseLines } from './rows.js';
import { serve } from './server.js';

const kKernelParts = ['limits', 'products', 'dram', 'lab', 'activations'];
const kModelParts = ['model', 'prompts'];
const kPatience = 900_000; // milliseconds for one job: a large model on a busy machine

/**
 * Command lines of tern_bench: one for the kernels, and one per model.
 * @returns {{model: {name: string, path: string} | null, words: string[]}[]}
 */
export function commands(options, models) {
  const time = ['--milliseconds', String(options.milliseconds)];
  const kernels = kKernelParts.filter((part) => options.parts.includes(part));
  const ofModel = kModelParts.filter((part) => options.parts.includes(part));
  if (options.stream > 0) ofModel.push('stream');
  return [
    ...(kernels.length > 0 ? [{ model: null, words: ['--parts', kernels.join(','), ...time] }] : []),
    ...(ofModel.length > 0
      ? models.map((model) => ({
          model,
          words: [
            ...['--parts', ofModel.join(','), '--model', model.name, ...time],
            ...(options.stream > 0 ? ['--stream-bytes', String(options.stream)] : []),
          ],
        }))
      : []),
  ];
}

/** Where a model's file was named, its name. */
const renamed = (lines, model) => lines.map((line) => (model && line.model ? { ...line, model: model.name } : line));

export async function native(root, options, models, note) {
  const program = `${root}/build/native/tern_bench`;
  if (!existsSync(program)) {
    note('native: build/native/tern_bench is not built: cmake --preset native && cmake --build --preset native');
    return [];
  }
  const lines = [];
  for (const { model, words } of commands(options, models)) {
    note(`native: ${model?.name ?? 'kernels'}`);
    const own = words.map((word, i) => (words[i - 1] === '--model' && model ? model.path : word));
    lines.push(...renamed(parseLines(await run(program, own)), model));
  }
  for (const model of options.parts.includes('threads') ? models : []) {
    note(`native: ${model.name}, 2 threads`);
    const words = ['--parts', 'model', '--model', model.path, '--milliseconds', String(options.milliseconds)];
    const all = parseLines(await run(program, [...words, '--threads', '2']));
    lines.push(...renamed(all, model).filter(({ threads }) => threads === 2)); // speeds; the rest is as with one
  }
  return lines;
}

/** One browser, from its start to its end; a browser that is missing is said in a line. */
export async function inBrowser(root, browser, options, models, note) {
  const modules = `${root}/build/wasm/bench`;
  const absent = missing(browser);
  if (absent) {
    note(`${browser}: ${absent}`);
    return [];
  }
  for (const [folder, command] of [
    [modules, 'cmake --preset wasm && cmake --build --preset wasm --target bench_modules'],
    [`${root}/dist`, 'npm run build:wasm && npm run build:lib'],
  ]) {
    if (!existsSync(folder)) {
      note(`${browser}: ${folder} is not built: ${command}`);
      return [];
    }
  }
  const lines = [];
  for (const { model, words } of commands(options, models)) {
    note(`${browser}: ${model?.name ?? 'kernels'}`);
    const url = model ? '/files/0' : null;
    lines.push(...renamed(await job(root, browser, model?.path, 'engine', { words, url }), model));
  }
  const seconds = options.milliseconds / 100;
  for (const model of models) {
    for (const threads of [options.parts.includes('page') ? 1 : 0, options.parts.includes('threads') ? 2 : 0]) {
      if (threads === 0) continue;
      note(`${browser}: the package with ${model.name}${threads > 1 ? `, ${threads} threads` : ''}`);
      const what = { url: '/files/0', name: model.name, seconds, threads: threads > 1 ? threads : null };
      lines.push(...(await job(root, browser, model.path, 'package', { ...what, memory: true })));
    }
  }
  return lines;
}

/** Runs a job of the bench page in a fresh browser, so that nothing of another job is in its memory; `file` is /files/0. */
export async function job(root, browser, file, kind, what, mounts = {}) {
  const folders = { page: `${root}/scripts/bench/page`, modules: `${root}/build/wasm/bench`, package: `${root}/dist` };
  const server = await serve({ ...folders, ...mounts }, file ? [file] : []);
  const page = await open[browser]();
  try {
    await page.goto(`${server.origin}/page/index.html`);
    await page.waitFor('window.ready');
    await page.evaluate(`window.start(${JSON.stringify(kind)}, ${JSON.stringify(what)})`);
    let memory = null;
    if (what.memory) {
      await page.waitFor('window.loaded || window.result', kPatience);
      memory = largestDescendant();
      await page.evaluate('window.release?.()');
    }
    const { lines, error } = await page.waitFor('window.result', kPatience);
    if (error) throw new Error(`${browser}: ${error}`);
    const parsed = lines.map((line) => JSON.parse(line));
    return memory === null ? parsed : parsed.flatMap((line) => [line, processLine(line, memory)]);
  } finally {
    await page.close();
    await server.close();
  }
}

const processLine = ({ model, threads, packed_bytes }, bytes) => ({
  bench: 'process',
  model,
  threads,
  packed_bytes,
  peak_bytes: bytes,
});
