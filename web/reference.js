// Writes the API reference to build/api/, a page for each entry of the package, from its declarations and what is said above
// them: npm run build:api. A type that a reader meets and no page has is an error.
// SPDX-License-Identifier: MIT

import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { Application } from 'typedoc';
import { manifest } from './manifest.js';

const path = (relative) => fileURLToPath(new URL(relative, import.meta.url));

/** Of each source that is an entry, how a program names it. The worker's is for bundlers only. */
const names = new Map();
for (const [subpath, { default: file = '' }] of Object.entries(manifest().exports)) {
  const source = /^\.\/(.*)\.js$/.exec(file)?.[1];
  const isOne = source !== undefined && subpath !== './worker' && existsSync(path(`src/${source}.ts`));
  if (isOne) names.set(source, subpath.replace('.', 'ternlm'));
}

const app = await Application.bootstrapWithPlugins({
  entryPoints: [...names.keys()].map((source) => path(`src/${source}.ts`)),
  basePath: path('src'),
  tsconfig: path('tsconfig.lib.json'),
  plugin: ['typedoc-plugin-markdown'],
  router: 'module',
  out: process.argv[2] ?? path('../build/api'),
  name: 'ternlm',
  readme: 'none',
  excludeInternal: true,
  excludeExternals: true, // of HTMLElement, for one
  excludePrivate: true,
  disableSources: true,
  hideBreadcrumbs: true,
  treatWarningsAsErrors: true,
  logLevel: 'Warn',
});
const project = await app.convert();
if (!project) process.exit(1);
for (const page of project.children) page.name = names.get(page.name) ?? names.get(`${page.name}/index`) ?? page.name;
app.validate(project);
await app.generateOutputs(project);
if (app.logger.hasErrors() || app.logger.hasWarnings()) process.exit(1);
