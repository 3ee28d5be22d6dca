// Starts the package's workers also where `new Worker` alone is refused: from another origin, and under Trusted Types.
// SPDX-License-Identifier: MIT

import { baseUrl } from '../context.js';

/** The worker that `literal` makes; or the one whose script was moved to `moved`. */
export function newWorker(literal: () => Worker, moved: URL | null): Worker {
  const { script, options } = moved ? { script: moved.href, options: kModule } : scriptOf(literal);
  const foreign = foreignUrl(script);
  if (foreign === null) return new Worker(trusted(script), options);
  // A worker's script must be of the page's origin. What that imports need not be.
  const load =
    options?.type === 'module' ? `import ${JSON.stringify(foreign)};` : `importScripts(${JSON.stringify(foreign)});`;
  const address = URL.createObjectURL(new Blob([load], { type: 'text/javascript' }));
  const worker = new Worker(trusted(address), options);
  for (const event of ['message', 'error'])
    worker.addEventListener(event, () => URL.revokeObjectURL(address), { once: true });
  return worker;
}

const kModule: WorkerOptions = { type: 'module' };

interface Script {
  script: string | URL;
  options: WorkerOptions | undefined;
}

/**
 * Where a bundler has put the script, which only the call that it has rewritten knows: it is heard by a stand-in for
 * Worker. Nothing else runs meanwhile.
 */
function scriptOf(literal: () => Worker): Script {
  if (!('Worker' in globalThis)) literal(); // throws what is to be told
  const real = globalThis.Worker;
  const heard: Script[] = [];
  const standIn = function (script: string | URL, options?: WorkerOptions): void {
    heard.push({ script, options });
  };
  Reflect.set(globalThis, 'Worker', standIn);
  try {
    literal();
  } finally {
    Reflect.set(globalThis, 'Worker', real);
  }
  const [first] = heard;
  if (!first) throw new Error('the global Worker cannot be replaced');
  return first;
}

/** The address of a script that is of another origin than the page; else null. */
function foreignUrl(script: string | URL): string | null {
  const { origin } = globalThis; // not location's: that of a sandboxed page is its own
  const url = new URL(String(script), baseUrl());
  return /^https?:$/.test(url.protocol) && typeof origin === 'string' && url.origin !== origin ? url.href : null;
}

interface TrustedTypes {
  createPolicy(name: string, rules: { createScriptURL(address: string): string }): Policy;
}
interface Policy {
  createScriptURL(address: string): string;
}

let policy: Policy | null = null; // one: a page may forbid a second of the name

/** What a page under `require-trusted-types-for 'script'` takes, if its policy allows the name ternlm. */
function trusted(script: string | URL): string | URL {
  const types: unknown = Reflect.get(globalThis, 'trustedTypes');
  if (!isTrustedTypes(types) || !(typeof script === 'string' || script instanceof URL)) return script; // trusted already
  try {
    policy ??= types.createPolicy('ternlm', { createScriptURL: (address) => address });
  } catch {
    return script; // if that is refused, too, the reason is told
  }
  return policy.createScriptURL(String(script));
}

function isTrustedTypes(value: unknown): value is TrustedTypes {
  return typeof value === 'object' && value !== null && 'createPolicy' in value;
}
