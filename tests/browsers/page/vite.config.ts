// Builds the page that tests the built package (dist/) in a browser, with the golden files beside it.
// SPDX-License-Identifier: MIT

import { readFileSync } from 'node:fs';
import { basename } from 'node:path';
import { fileURLToPath } from 'node:url';
import { defineConfig, type Plugin } from 'vite';
import { goldens, modelOf } from '../../web/golden.js';

const kRoot = new URL('../../../', import.meta.url);
const path = (relative: string): string => fileURLToPath(new URL(relative, kRoot));

/** golden/index.json lists what there is; the models lie beside it. */
function golden(): Plugin {
  return {
    name: 'golden',
    buildStart() {
      const index = goldens().map(([name, golden]) => ({ name, golden, url: `golden/${basename(golden.model)}` }));
      this.emitFile({ type: 'asset', fileName: 'golden/index.json', source: JSON.stringify(index) });
      const compressed = readFileSync(path('tests/data/compressed.json'));
      this.emitFile({ type: 'asset', fileName: 'golden/compressed.json', source: compressed });
      for (const { golden, url } of index) this.emitFile({ type: 'asset', fileName: url, source: modelOf(golden) });
    },
  };
}

/** The vectors of models/SPEC.md, and the builds of the operations that answer them. */
function conformance(): Plugin {
  return {
    name: 'conformance',
    buildStart() {
      const copy = (from: string, name: string): void =>
        void this.emitFile({
          type: 'asset',
          fileName: `conformance/${name}`,
          source: readFileSync(path(`${from}/${name}`)),
        });
      for (const tier of ['functions', 'operations']) copy('tests/conformance', `${tier}.json`);
      for (const level of ['scalar', 'simd128', 'relaxed']) {
        copy('build/wasm/conformance', `${level}.wasm`);
      }
    },
  };
}

/** What a misconfigured server has in place of the package's files. */
function wrongFiles(): Plugin {
  return {
    name: 'wrong-files',
    buildStart() {
      const page = '<!doctype html><title>Not found</title>';
      for (const name of ['tern-simd', 'tern-relaxed', 'tern-threads']) {
        this.emitFile({ type: 'asset', fileName: `wrong/${name}.wasm`, source: page });
      }
      const stops = 'onmessage = () => { postMessage("ready"); throw new Error("stopped as asked"); };';
      this.emitFile({ type: 'asset', fileName: 'wrong/helper.js', source: stops });
      this.emitFile({ type: 'asset', fileName: 'wrong/worker.js', source: 'throw new Error("not the worker");' });
    },
  };
}

/** A script of its own, at an address that a page can register. */
function serviceWorker(): Plugin {
  return {
    name: 'service-worker',
    buildStart() {
      this.emitFile({
        type: 'chunk',
        id: path('tests/browsers/page/service-worker.ts'),
        fileName: 'service-worker.js',
      });
    },
  };
}

export default defineConfig({
  root: path('tests/browsers/page'),
  base: './',
  // The built package; and inner modules from their sources, to run each variant by name.
  resolve: {
    alias: {
      'ternlm/engine': path('web/src/engine/engine.ts'),
      'ternlm/conformance': path('dist/entries/conformance.js'),
      'ternlm/codec': path('web/src/codec.ts'),
      'ternlm/options': path('web/src/api/options.ts'),
      'ternlm/scores': path('web/src/api/scores.ts'),
      ternlm: path('dist/index.js'),
    },
  },
  plugins: [golden(), conformance(), wrongFiles(), serviceWorker()],
  build: { outDir: path('build/browser-page'), emptyOutDir: true, target: 'es2022', assetsInlineLimit: 0 },
});
