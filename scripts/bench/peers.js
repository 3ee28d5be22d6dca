// Measures what others need for the same products: wllama in Chromium and llama.cpp natively, on random llama models.
import { existsSync, readFileSync } from 'node:fs';
import { missing } from '../../tests/browsers/drivers.js';
import { job } from './engines.js';
import { random } from './models.js';
import { kPresets, kPublished } from './options.js';
import { attempt, run } from './processes.js';
import { parseLines } from './rows.js';

const kWllama = '@wllama/wllama@3.13.0';
const kLlama = 'llama-cpp-python==0.3.36';
// Only the library: its programs take most of the time that it needs to compile.
const kLlamaBuild = [
  'LLAMA_BUILD_TESTS',
  'LLAMA_BUILD_EXAMPLES',
  'LLAMA_BUILD_SERVER',
  'LLAMA_BUILD_TOOLS',
  'LLAVA_BUILD',
]
  .map((option) => `-D${option}=OFF`)
  .join(' ');

async function installWllama(folder, note) {
  const installed = `${folder}/node_modules/@wllama/wllama`;
  const { version } = existsSync(`${installed}/package.json`)
    ? JSON.parse(readFileSync(`${installed}/package.json`))
    : {};
  if (kWllama.endsWith(`@${version}`)) return installed;
  note(`installing ${kWllama} into build/peers`);
  await run('npm', ['install', '--prefix', folder, '--no-save', '--no-audit', '--no-fund', kWllama]);
  return installed;
}

async function installLlama(folder, note) {
  const python = `${folder}/venv/bin/python`;
  const works = () => run(python, ['-c', 'import llama_cpp']);
  if (existsSync(python) && (await works().catch(() => null)) !== null) return python;
  note(`installing ${kLlama} into build/peers: it is compiled here, which takes ten minutes or more`);
  await run('python3', ['-m', 'venv', `${folder}/venv`]);
  const env = { ...process.env, CMAKE_ARGS: kLlamaBuild };
  await run(python, ['-m', 'pip', 'install', '--quiet', kLlama], { env });
  await works();
  return python;
}

/** Those among `models` that llama models can have the products of: with bytes, or as published. */
export const peerPresets = (models) =>
  [
    ...kPresets.map((preset) => ({ preset, name: `random ${preset}`, pieces: '' })),
    ...kPublished.map((name) => ({ preset: /^MMfreeLM-(.*)/.exec(name)?.[1], name, pieces: '32000' })),
  ].filter(({ preset, name }) => preset && models.some((model) => model.name === name));

/** How many tokens of a prompt: some seconds of work for the slowest. */
export const tokensFor = (preset, slow) => (['1.3B', '2.7B'].includes(preset) ? (slow ? 8 : 32) : slow ? 64 : 256);

/** -> lines by engine: wllama, llama.cpp */
export async function peers(root, options, models, note) {
  const folder = `${root}/build/peers`;
  const lines = { wllama: [], 'llama.cpp': [] };
  await run('mkdir', ['-p', folder]);
  const python = await attempt('llama.cpp', note, () => installLlama(folder, note));
  const absent = missing('chromium');
  const wllama = await attempt('wllama', note, () => {
    if (absent) throw new Error(absent);
    return installWllama(folder, note);
  });
  const seconds = options.milliseconds / 200;
  for (const { preset, name, pieces } of peerPresets(models)) {
    for (const type of options.peerTypes) {
      const path = await random(root, preset, 'llama', type, note, pieces);
      for (const threads of python && type !== 'Q8_0' ? [1, 2] : []) {
        note(`llama.cpp: ${name} ${type}, threads: ${threads}`);
        const what = ['--name', name, '--type', type, '--threads', String(threads), '--seconds', String(seconds)];
        const words = [`${root}/scripts/bench/llama_peer.py`, path, ...what];
        const out = await attempt('llama.cpp', note, () =>
          run(python, [...words, '--tokens', String(tokensFor(preset, false))]),
        );
        lines['llama.cpp'].push(...parseLines(out ?? ''));
      }
      if (!wllama) continue;
      note(`wllama: ${name} ${type}`);
      const what = { url: '/files/0', name, type, tokens: tokensFor(preset, true), threads: 1 };
      const found = await attempt('wllama', note, () => job(root, 'chromium', path, 'wllama', what, { wllama }));
      lines.wllama.push(...(found ?? []));
    }
  }
  return lines;
}
