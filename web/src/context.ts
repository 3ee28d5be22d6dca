// What runs this code where it is not a browser, and its files.
// SPDX-License-Identifier: MIT

/** Node, Deno or Bun; null in a browser, whatever a bundler has put in place of `process`. */
export function runtimeName(): 'Node' | 'Deno' | 'Bun' | null {
  if (!process_()) return null;
  return 'Deno' in globalThis ? 'Deno' : 'Bun' in globalThis ? 'Bun' : 'Node';
}

/** Asked for at run time, so that bundlers see nothing of Node; null in a browser. */
export function fileSystem(): typeof import('node:fs') | null {
  return process_()?.getBuiltinModule('node:fs') ?? null;
}

/** The path of a file as a file: URL; null in a browser. */
export function fileUrl(path: string): URL | null {
  return process_()?.getBuiltinModule('node:url').pathToFileURL(path) ?? null;
}

/** What relative addresses are relative to: the page, the worker that uses the package, or the current folder. */
export function baseUrl(): string | undefined {
  if (typeof document !== 'undefined') return document.baseURI;
  const process = process_();
  if (process) return fileUrl(`${process.cwd()}/`)?.href;
  return typeof location === 'undefined' ? undefined : location.href;
}

function process_(): NodeJS.Process | null {
  if (typeof document !== 'undefined' || !('process' in globalThis)) return null;
  return 'getBuiltinModule' in globalThis.process ? globalThis.process : null;
}
