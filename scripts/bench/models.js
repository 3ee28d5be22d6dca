// Finds the models to measure, and makes those with random weights.
import { existsSync, readFileSync } from 'node:fs';
import { basename, resolve } from 'node:path';
import { kPresets } from './options.js';
import { run } from './processes.js';

/**
 * @param {string} root of the repository
 * @param {string[]} names "shipped", a size, or a file
 * @returns {Promise<{name: string, path: string}[]>}
 */
export async function findModels(root, names, note) {
  const found = [];
  for (const name of names) {
    if (name === 'shipped') {
      const { models } = JSON.parse(readFileSync(`${root}/models/manifest.json`, 'utf8'));
      found.push(
        ...models
          .map(({ file }) => ({ name: file.replace(/\.gguf$/, ''), path: `${root}/models/${file}` }))
          .filter(({ path }) => existsSync(path)),
      );
    } else if (kPresets.includes(name)) {
      found.push({ name: `random ${name}`, path: await random(root, name, 'hgrnbit', 'TQ2_0', note) });
    } else if (existsSync(name)) {
      found.push({ name: basename(name, '.gguf'), path: resolve(name) });
    } else {
      throw new Error(`--models: expected a file, "shipped" or one of ${kPresets.join(', ')}, found "${name}"`);
    }
  }
  return found;
}

/** The file of a random model, made once. */
export async function random(root, preset, architecture, type, note) {
  const path = `${root}/build/bench/${architecture === 'llama' ? 'llama-' : ''}${preset}-${type}.gguf`;
  if (existsSync(path)) return path;
  note(`making ${path.slice(root.length + 1)}`);
  const partial = `${path}.partial`; // so that an interrupted run leaves nothing that looks complete
  const words = [partial, '--preset', preset, '--architecture', architecture, '--type', type];
  await run(`${root}/.venv/bin/python`, [`${root}/scripts/make_random_model.py`, ...words]);
  await run('mv', [partial, path]);
  return path;
}
