// Gets the package's own .wasm files, and says what lies there in their place.
// SPDX-License-Identifier: MIT

import { fileSystem } from '../context.js';
import { TernError, describe, leftBehind } from '../errors.js';
import { looksLikeHtml } from '../html.js';

const kRemedy = leftBehind(`'ternlm/standalone' has all inside, assets.wasm says where the package's folder wasm/ is`);

/** The bytes of one of the package's own .wasm files. */
export async function fetchWasm(url: URL): Promise<Uint8Array<ArrayBuffer>> {
  const bytes = url.protocol === 'file:' ? readFile(url) : await fetchBytes(url);
  const [a, b, c, d] = bytes;
  if (a === 0x00 && b === 0x61 && c === 0x73 && d === 0x6d) return bytes;
  const found = bytes.length === 0 ? 'an empty file' : looksLikeHtml(bytes) ? 'an HTML page' : 'something else';
  throw new TernError('bad-assets', `expected a WebAssembly module at ${url.href}, found ${found}: ${kRemedy}`);
}

async function fetchBytes(url: URL): Promise<Uint8Array<ArrayBuffer>> {
  try {
    const response = await fetch(url);
    if (response.ok) return new Uint8Array(await response.arrayBuffer());
    throw new Error(`the server answered ${response.status}`);
  } catch (error) {
    throw new TernError('bad-assets', `${url.href} could not be fetched (${describe(error)}): ${kRemedy}`, {
      cause: error,
    });
  }
}

/** Node has no fetch for files. */
function readFile(url: URL): Uint8Array<ArrayBuffer> {
  const files = fileSystem();
  if (!files) throw new TernError('bad-assets', `${url.href}: a page cannot read files`);
  try {
    return new Uint8Array(files.readFileSync(url));
  } catch (error) {
    throw new TernError('bad-assets', `${url.href} could not be read (${describe(error)})`, { cause: error });
  }
}
