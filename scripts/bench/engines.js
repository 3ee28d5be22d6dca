// Measures our engine: the native bench, and in a browser the bench page with the same code and with the shipped package.
import { open } from '../../tests/browsers/drivers.js';
import { attempt, largestDescendant, run } from './processes.js';
import { parseLines } from './rows.js';
import { serve } from './server.js';

const kKernelParts = ['limits', 'products', 'dram', 'lab', 'lab_dram', 'activations', 'sampler'];
const kModelParts = ['model', 'prompts'];
const kPatience = 900_000; // milliseconds for one job: a large model on a busy machine; a long text gets 1 more per byte

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

/** Says what is measured, and measures it. -> lines */
async function measured(what, note, work) {
  note(what);
  return (await attempt(what, note, work)) ?? [];
}

/** Where a model's file was named, its name. */
const renamed = (lines, model) => lines.map((line) => (model && line.model ? { ...line, model: model.name } : line));

export async function native(root, options, models, note) {
  const program = `${root}/build/native/tern_bench`;
  const lines = [];
  for (const { model, words } of commands(options, models)) {
    const own = words.map((word, i) => (words[i - 1] === '--model' && model ? model.path : word));
    const measure = async () => renamed(parseLines(await run(program, own)), model);
    lines.push(...(await measured(`native: ${model?.name ?? 'kernels'}`, note, measure)));
  }
  for (const model of options.parts.includes('threads') ? models : []) {
    const words = ['--parts', 'model', '--model', model.path, '--milliseconds', String(options.milliseconds)];
    const measure = async () => parseLines(await run(program, [...words, '--threads', '2']));
    const all = await measured(`native: ${model.name}, 2 threads`, note, measure);
    lines.push(...renamed(all, model).filter(({ threads }) => threads === 2)); // speeds; the rest is as with one
  }
  return lines;
}

/** One browser, from its start to its end. */
export async function inBrowser(root, browser, options, models, note) {
  const lines = [];
  for (const { model, words } of commands(options, models)) {
    const what = { words, url: model ? '/files/0' : null, patience: kPatience + options.stream };
    const measure = async () => renamed(await job(root, browser, model?.path, 'engine', what), model);
    lines.push(...(await measured(`${browser}: ${model?.name ?? 'kernels'}`, note, measure)));
  }
  const seconds = options.milliseconds / 100;
  for (const model of models) {
    for (const threads of [options.parts.includes('page') ? 1 : 0, options.parts.includes('threads') ? 2 : 0]) {
      if (threads === 0) continue;
      const title = `${browser}: the package with ${model.name}${threads > 1 ? `, ${threads} threads` : ''}`;
      const what = { url: '/files/0', name: model.name, seconds, threads: threads > 1 ? threads : null, memory: true };
      lines.push(...(await measured(title, note, () => job(root, browser, model.path, 'package', what))));
    }
  }
  return lines;
}

/**
 * Runs a job of the bench page in a fresh browser, so that nothing of another job is in its memory; `file` is /files/0.
 * what: of the job; `patience`: milliseconds to wait for it
 */
export async function job(root, browser, file, kind, { patience = kPatience, ...what }, mounts = {}) {
  const folders = {
    page: `${root}/scripts/bench/page`,
    modules: `${root}/build/wasm/bench`,
    package: `${root}/dist`,
    tokenizers: `${root}/node_modules/@huggingface/tokenizers/dist`,
  };
  const server = await serve({ ...folders, ...mounts }, file ? [file] : []);
  const page = await open[browser]();
  try {
    await page.goto(`${server.origin}/page/index.html`);
    await page.waitFor('window.ready');
    await page.evaluate(`window.start(${JSON.stringify(kind)}, ${JSON.stringify(what)})`);
    let memory = null;
    if (what.memory) {
      await page.waitFor('window.loaded || window.result', patience);
      memory = largestDescendant();
      await page.evaluate('window.release?.()');
    }
    const { lines, error } = await page.waitFor('window.result', patience);
    if (error) throw new Error(`${browser}: ${error}`);
    const parsed = lines.map((line) => JSON.parse(line));
    return memory === null ? parsed : parsed.flatMap((line) => [line, processLine(line, memory)]);
  } finally {
    await page.close();
    await server.close();
  }
}

const processLine = ({ model, threads, packed_bytes, cache_bytes }, bytes) => ({
  bench: 'process',
  model,
  threads,
  packed_bytes,
  cache_bytes,
  peak_bytes: bytes,
});
