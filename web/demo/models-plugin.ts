// Brings the published models into the page: what models/manifest.json lists is served and built under models/.
// SPDX-License-Identifier: MIT

import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Plugin } from 'vite';
import type { PublishedModel } from './published.js';

const kModule = 'virtual:published-models';

/** What the manifest in `folder` lists. */
export function publishedIn(folder: string): PublishedModel[] {
  const manifest = join(folder, 'manifest.json');
  if (!existsSync(manifest)) return [];
  const { models: list }: { models: PublishedModel[] } = JSON.parse(readFileSync(manifest, 'utf8'));
  return list;
}

export function models(folder: string): Plugin {
  const published = (): PublishedModel[] => publishedIn(folder);
  return {
    name: 'ternlm-models',
    resolveId: (id) => (id === kModule ? `\0${kModule}` : null),
    load(id) {
      if (id !== `\0${kModule}`) return null;
      const list = published();
      if (list.length === 0) this.warn(`${folder}/manifest.json lists no model: the page will say so`);
      return `export default ${JSON.stringify(list)};`;
    },
    buildStart() {
      if (this.meta.watchMode) return;
      for (const { file } of published()) {
        this.emitFile({ type: 'asset', fileName: `models/${file}`, source: readFileSync(join(folder, file)) });
      }
    },
    configureServer(server) {
      server.middlewares.use((request, response, next) => {
        const file = published().find((model) => request.url?.split('?')[0] === `/models/${model.file}`)?.file;
        if (file === undefined) return next();
        response.setHeader('Content-Type', 'application/octet-stream');
        response.end(readFileSync(join(folder, file)));
      });
    },
  };
}
