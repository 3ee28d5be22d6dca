// The manifest of the package: web/package.json, what it depends on as the repository's has it, and where it comes from.
// SPDX-License-Identifier: MIT

import { readFileSync } from 'node:fs';

const read = (path) => JSON.parse(readFileSync(new URL(path, import.meta.url), 'utf8'));

/** `address`: of the repository it is published from, if there is one. */
export function manifest(address) {
  const origin = {
    repository: { type: 'git', url: `git+${address}.git` },
    homepage: `${address}#readme`,
    bugs: { url: `${address}/issues` },
  };
  return { ...read('package.json'), ...(address && origin), dependencies: read('../package.json').dependencies };
}
