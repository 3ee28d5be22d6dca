// A clean project with the packed package in it, as `npm install ternlm.tgz` leaves one.
import { execFileSync } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

export const root = fileURLToPath(new URL('../../', import.meta.url));

let packed; // made once for all
const folders = new Set(); // that are left
process.once('exit', removeAll);

/** Whatever was made here. */
export function removeAll() {
  folders.forEach(remove);
}

function remove(folder) {
  rmSync(folder, { recursive: true, force: true });
  folders.delete(folder);
}

function newFolder(prefix) {
  const folder = mkdtempSync(prefix);
  folders.add(folder);
  return folder;
}

/** The tarball of dist/, in a folder of its own that is gone when the process is. */
export function tarball() {
  if (packed) return packed;
  const folder = newFolder(join(tmpdir(), 'ternlm-'));
  const list = execFileSync('npm', ['pack', '--json', '--pack-destination', folder], {
    cwd: join(root, 'dist'),
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  packed = join(folder, JSON.parse(list)[0].filename);
  return packed;
}

/**
 * Makes the project; `files`: contents by path; `links`: packages of this repository's node_modules that it has, too;
 * `parent`: where it is, if not in the system's temporary folder.  Returns its folder and remove().
 *
 * @param {Record<string, string>} files
 * @param {{ links?: string[], parent?: string }} options
 */
export function newProject(files, { links = [], parent = tmpdir() } = {}) {
  mkdirSync(parent, { recursive: true });
  const folder = newFolder(join(parent, 'ternlm-project-'));
  const installed = join(folder, 'node_modules/ternlm');
  mkdirSync(installed, { recursive: true });
  execFileSync('tar', ['-xzf', tarball(), '--strip-components=1', '-C', installed]);
  for (const name of ['@huggingface', '@eslint-community/regexpp']) {
    cpSync(join(root, 'node_modules', name), join(folder, 'node_modules', name), { recursive: true });
  }
  for (const name of links) {
    mkdirSync(dirname(join(folder, 'node_modules', name)), { recursive: true }); // of a scope
    symlinkSync(join(root, 'node_modules', name), join(folder, 'node_modules', name));
  }
  const clean = { 'package.json': '{ "name": "clean", "private": true, "type": "module" }' };
  for (const [name, content] of Object.entries({ ...clean, ...files })) {
    mkdirSync(dirname(join(folder, name)), { recursive: true });
    writeFileSync(join(folder, name), content);
  }
  return { folder, remove: () => remove(folder) };
}
