// Compares a file with the SHA-256 that its publisher gave.
// SPDX-License-Identifier: MIT
//
// The platform's digest wants the file in one piece, so its chunks are kept until then: a second copy of the download
// for the time of loading, and only when a checksum was asked for.

import { TernError } from '../errors.js';

export class Sha256Check {
  readonly #expected: string | null;
  readonly #chunks: Uint8Array<ArrayBuffer>[] = [];

  constructor(expected: string | undefined) {
    if (expected !== undefined && !/^[0-9a-f]{64}$/i.test(expected)) {
      throw new TernError(
        'bad-option',
        `integrity must be 64 hexadecimal digits (SHA-256), found ${JSON.stringify(expected)}`,
      );
    }
    this.#expected = expected?.toLowerCase() ?? null;
  }

  /** Call before the chunk is handed on. */
  add(chunk: Uint8Array): void {
    if (this.#expected !== null && available()) this.#chunks.push(chunk.slice());
  }

  async finish(): Promise<'verified' | 'not asked for'> {
    if (this.#expected === null) return 'not asked for';
    if (!available()) throw new TernError('unsupported', 'integrity cannot be checked in an insecure context');
    const file = await new Blob(this.#chunks.splice(0)).arrayBuffer();
    const found = toHex(new Uint8Array(await crypto.subtle.digest('SHA-256', file)));
    if (found === this.#expected) return 'verified';
    throw new TernError(
      'integrity',
      `expected a file with SHA-256 ${this.#expected}, found ${found}: it was changed or damaged on the way`,
    );
  }
}

/** Pages that are neither https nor localhost have no crypto.subtle, whatever its type says. */
function available(): boolean {
  return 'subtle' in crypto;
}

function toHex(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');
}
