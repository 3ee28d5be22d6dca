// Builds what is to be measured, so that no row is left out or tells of an old engine.
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { commands } from './engines.js';
import { run } from './processes.js';

const kPackageParts = ['page', 'threads'];

// Emscripten as scripts/setup has installed it, quoted; another checkout is built with it, too.
const kEnvironment = `'${fileURLToPath(new URL('../../.toolchain/env.sh', import.meta.url)).replaceAll("'", "'\\''")}'`;

/**
 * What the options need: the file that is run, and the command that makes it.
 * @returns {{what: string, file: string, command: string}[]}
 */
export function needed(options, models) {
  const programs = commands(options, models).length > 0;
  const threads = options.parts.includes('threads') && models.length > 0;
  const inBrowsers = options.browsers.length > 0;
  const list = [];
  if (options.native && (programs || threads)) {
    const command = 'cmake --preset native && cmake --build --preset native --target tern_bench';
    list.push({ what: 'the native bench', file: 'build/native/tern_bench', command });
  }
  if (inBrowsers && programs) {
    const command = 'cmake --preset wasm && cmake --build --preset wasm --target bench_modules';
    list.push({ what: "the bench's modules", file: 'build/wasm/bench/bench-relaxed.js', command });
  }
  if (inBrowsers && models.length > 0 && kPackageParts.some((part) => options.parts.includes(part))) {
    const command = 'cmake --preset wasm && cmake --build --preset wasm && npm run build:lib';
    list.push({ what: 'the package', file: 'dist/index.js', command });
  }
  return list;
}

/**
 * Builds it in `root`; with --no-build only looks whether it is there. Throws an Error with the command that mends it.
 */
export async function build(root, options, models, note) {
  const environment = `if [ -f ${kEnvironment} ]; then source ${kEnvironment}; fi`;
  for (const { what, file, command } of needed(options, models)) {
    const byHand = `cd '${root}' && ${command}`;
    if (options.build) {
      note(`building ${what}${root === process.cwd() ? '' : ` in ${root}`}`);
      await run('bash', ['-c', `${environment}; ${command}`], { cwd: root }).catch((error) => {
        throw new Error(`${what} could not be built: ${error.message}\nBy hand (after scripts/setup): ${byHand}`);
      });
    }
    if (!existsSync(`${root}/${file}`)) throw new Error(`${what}: ${file} is not there. Build it: ${byHand}`);
  }
}
