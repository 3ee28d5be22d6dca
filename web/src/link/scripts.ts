// The scripts of the package's workers, where bundlers look for them: in this literal form. The self-contained build has
// another file in place of this one (web/standalone).
// SPDX-License-Identifier: MIT

export const newEngineWorker = (): Worker =>
  new Worker(new URL('../host/worker.js', import.meta.url), { type: 'module' });

export const newHelperWorker = (): Worker =>
  new Worker(new URL('../host/helper.js', import.meta.url), { type: 'module' });
