// Lines that import the package, as a script for a page that the built package itself is served to.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';

export const dist = fileURLToPath(new URL('../../dist/', import.meta.url));

const { exports } = JSON.parse(readFileSync(join(dist, 'package.json'), 'utf8'));

/** Where the file of an import lies in the package. */
function fileOf(name) {
  const subpath = name.replace('ternlm', '.');
  const found =
    exports[subpath]?.default ?? exports['./models/*'].default.replace('*', subpath.slice('./models/'.length));
  return found.slice(1);
}

/** The package's own files are asked for by their addresses; React, and what is for it, become a part of the script. */
const byAddress = {
  name: 'by-address',
  setup: ({ onResolve }) =>
    onResolve({ filter: /^ternlm/ }, ({ path }) =>
      path === 'ternlm/react' ? { path: join(dist, fileOf(path)) } : { path: fileOf(path), external: true },
    ),
};

export async function bundled(contents) {
  const { outputFiles } = await build({
    stdin: { contents, resolveDir: dist, loader: 'jsx' },
    bundle: true,
    write: false,
    format: 'esm',
    target: 'es2022',
    jsx: 'automatic',
    define: { 'process.env.NODE_ENV': '"production"' },
    plugins: [byAddress],
  });
  return outputFiles[0].text;
}

/** The files of the package that import others from npm, as a bundler makes them. */
export async function withOthers() {
  const entryPoints = ['tokenizer.js', 'constraints/index.js'].map((file) => join(dist, file));
  const outdir = join(dist, '.'); // of their paths only
  const { outputFiles } = await build({
    entryPoints,
    outdir,
    outbase: dist,
    bundle: true,
    write: false,
    format: 'esm',
  });
  return Object.fromEntries(outputFiles.map(({ path, text }) => [path.slice(dist.length - 1), text]));
}
