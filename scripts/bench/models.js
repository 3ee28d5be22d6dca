// Finds the models to measure, and makes those with random weights.
import { existsSync, readFileSync, readdirSync, rmSync, statSync } from 'node:fs';
import { basename, resolve } from 'node:path';
import { kPresets, kPublished } from './options.js';
import { save } from './output.js';
import { run } from './processes.js';
import { parseLines } from './rows.js';

/**
 * @param {string} root of the repository
 * @param {string[]} names "shipped", a size, a published model, or a file
 * @returns {Promise<{name: string, path: string, conversion?: object}[]>}
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
      const architecture = name.startsWith('BitNet') ? 'bitnet' : 'hgrnbit';
      found.push({ name: `random ${name}`, path: await random(root, name, architecture, 'TQ2_0', note) });
    } else if (kPublished.includes(name)) {
      found.push(await converted(root, name, note));
    } else if (existsSync(name)) {
      found.push({ name: basename(name, '.gguf'), path: resolve(name) });
    } else {
      const known = [...kPresets, ...kPublished].join(', ');
      throw new Error(`--models: expected a file, "shipped" or one of ${known}, found "${name}"`);
    }
  }
  return found;
}

/** A random checkpoint as it would be published, converted once; the checkpoint is several times as large, and goes. */
async function converted(root, name, note) {
  const path = `${root}/build/bench/${name}.gguf`;
  const notes = `${path}.json`; // what the conversion took
  if (!existsSync(path) || !existsSync(notes)) {
    note(`making and converting a checkpoint of ${name}`);
    const folder = `${root}/build/bench/checkpoint`;
    const python = `${root}/.venv/bin/python`;
    rmSync(folder, { recursive: true, force: true });
    await run(python, [`${root}/scripts/make_random_model.py`, folder, '--published', name]);
    const files = readdirSync(folder);
    const bin = files.find((file) => file.endsWith('.bin'));
    const words = [...(bin ? [`${folder}/${bin}`, '--tokenizer'] : []), folder, '--license', 'MIT', '--out', path];
    const out = await run(python, [
      `${root}/scripts/bench/measured.py`,
      python,
      `${root}/scripts/convert.py`,
      ...words,
    ]);
    const bytes = files.reduce((sum, file) => sum + statSync(`${folder}/${file}`).size, 0);
    const [taken] = parseLines(out);
    save(notes, JSON.stringify({ bench: 'convert', model: name, checkpoint_bytes: bytes, ...taken }));
    rmSync(folder, { recursive: true });
  }
  return { name, path, conversion: JSON.parse(readFileSync(notes, 'utf8')) };
}

/** The file of a random model, made once; with more `pieces` than bytes where they are given. */
export async function random(root, preset, architecture, type, note, pieces = '') {
  const kind = architecture === 'llama' ? 'llama-' : '';
  const path = `${root}/build/bench/${kind}${preset}-${pieces && `${pieces}-`}${type}.gguf`;
  if (existsSync(path)) return path;
  note(`making ${path.slice(root.length + 1)}`);
  const partial = `${path}.partial`; // so that an interrupted run leaves nothing that looks complete
  const words = [partial, '--preset', preset, '--architecture', architecture, '--type', type];
  if (pieces) words.push('--vocab-size', pieces);
  await run(`${root}/.venv/bin/python`, [`${root}/scripts/make_random_model.py`, ...words]);
  await run('mv', [partial, path]);
  return path;
}
