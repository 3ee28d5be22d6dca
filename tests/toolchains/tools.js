// The toolchains, each as it comes: what turns src/main.js and index.html of a project into a folder to serve.
import { execFileSync, spawn } from 'node:child_process';
import { cpSync } from 'node:fs';
import { join } from 'node:path';
import { root } from './project.js';

const run = (tool, args, folder) =>
  execFileSync(process.execPath, [join(root, 'node_modules', tool), ...args], { cwd: folder, stdio: 'pipe' });

/** webpack and Rspack have the same interface. */
async function pack(tool, folder) {
  const { default: compile } = await import(tool);
  const stats = await new Promise((resolve, reject) => {
    const compiler = compile({ mode: 'production', context: folder, output: { path: join(folder, 'dist') } });
    compiler.run((error, result) => compiler.close(() => (error ? reject(error) : resolve(result))));
  });
  const { errors, warnings } = stats.toJson({ all: false, errors: true, warnings: true });
  // Advice that a file is large is no complaint about the package.
  const complaints = [...errors, ...warnings]
    .map(({ message }) => message)
    .filter((text) => !/size limit|limit the size/.test(text));
  if (complaints.length > 0) throw new Error(complaints.join('\n'));
  cpSync(join(folder, 'index.html'), join(folder, 'dist/index.html'));
  return join(folder, 'dist');
}

export const build = {
  async vite(folder) {
    const output = run('vite/bin/vite.js', ['build', '--logLevel', 'warn'], folder).toString();
    if (output !== '') throw new Error(output);
    return join(folder, 'dist');
  },
  webpack: (folder) => pack('webpack', folder),
  rspack: (folder) => pack('@rspack/core', folder),
  async esbuild(folder) {
    const { build } = await import('esbuild');
    const result = await build({
      absWorkingDir: folder,
      entryPoints: ['src/index.js'],
      outfile: 'dist/main.js',
      bundle: true,
      format: 'esm',
      logLevel: 'silent',
    });
    if (result.warnings.length > 0) throw new Error(JSON.stringify(result.warnings));
    cpSync(join(folder, 'index.html'), join(folder, 'dist/index.html'));
    return join(folder, 'dist');
  },
  async rollup(folder) {
    const { rollup } = await import('rollup');
    const { nodeResolve } = await import('@rollup/plugin-node-resolve');
    const onwarn = ({ message }) => {
      throw new Error(message);
    };
    const bundle = await rollup({
      input: join(folder, 'src/index.js'),
      plugins: [nodeResolve({ browser: true })],
      onwarn,
    });
    await bundle.write({ dir: join(folder, 'dist'), format: 'es', entryFileNames: 'main.js' });
    await bundle.close();
    cpSync(join(folder, 'index.html'), join(folder, 'dist/index.html'));
    return join(folder, 'dist');
  },
};

/** Vite's development server over a project that has Vite; as serve() of tests/browsers gives one. */
export async function serveDev(folder) {
  const { createServer } = await import('vite');
  const server = await createServer({ root: folder, logLevel: 'silent', server: { host: '127.0.0.1', port: 0 } });
  await server.listen();
  const { port } = server.httpServer.address();
  return { origin: `http://127.0.0.1:${port}`, problems: [], close: () => server.close() };
}

// ---- large ones, of package.json beside this file ----

/** Where they are installed: outside of this repository, whose settings they would find.  Their projects lie there, too. */
export const large = process.env.TERN_TOOLCHAINS ?? '';

build.parcel = async (folder) => {
  const output = runLarge('parcel/lib/bin.js', ['build', 'index.html', '--no-cache', '--log-level', 'warn'], folder);
  if (output !== '') throw new Error(output);
  return join(folder, 'dist');
};

/** What one of them prints. */
export function runLarge(tool, args, folder) {
  const env = { ...process.env, NODE_ENV: 'production', NEXT_TELEMETRY_DISABLED: '1' }; // Vite's server has set another
  return execFileSync(process.execPath, [join(large, 'node_modules', tool), ...args], {
    cwd: folder,
    encoding: 'utf8',
    env,
  });
}

/** What Next builds, served by Next; as serve() of tests/browsers gives one. */
export async function serveNext(folder) {
  runLarge('next/dist/bin/next', ['build'], folder);
  const tool = join(large, 'node_modules/next/dist/bin/next');
  const child = spawn(process.execPath, [tool, 'start', '--hostname', '127.0.0.1', '--port', '0'], { cwd: folder });
  const origin = await new Promise((resolve, reject) => {
    let said = '';
    child.stdout.on('data', (text) => {
      said += text;
      const found = /http:\/\/127\.0\.0\.1:\d+/.exec(said);
      if (found) resolve(found[0]);
    });
    child.once('exit', () => reject(new Error(`next start ended: ${said}`)));
  });
  return { origin, problems: [], close: async () => void child.kill() };
}
