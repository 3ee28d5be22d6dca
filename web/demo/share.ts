// A link that tells the same story again anywhere, and knows the bytes it has to arrive at.
// SPDX-License-Identifier: MIT

import type { GenerateOptions } from 'ternlm';

export interface Shared {
  readonly prompt: string;
  readonly options: GenerateOptions;
  /** Name of the model file; empty in links of the time when there was one model. */
  readonly file: string;
  /** Its fingerprint. */
  readonly model: string;
  readonly length: number;
  /** First 8 digits of the SHA-256 of the output; empty where the browser cannot compute it. */
  readonly checksum: string;
}

/** Everything goes behind the '#', which browsers do not send to the server. */
export function toLink({ prompt, options, file, model, length, checksum }: Shared, page: string): string {
  const fields = new URLSearchParams({
    prompt,
    seed: String(options.seed),
    temperature: String(options.temperature),
    'top-k': String(options.topK),
    'top-p': String(options.topP),
    bytes: String(length),
    file,
    model,
    sha256: checksum,
  });
  const url = new URL(page);
  url.hash = fields.toString();
  return url.href;
}

/** What a link asks for; null for an ordinary address or a link that is not whole. */
export function fromLink(link: string): Shared | null {
  const fields = new URLSearchParams(new URL(link).hash.slice(1));
  const seed = fields.get('seed') ?? '';
  const [temperature, topK, topP, length] = ['temperature', 'top-k', 'top-p', 'bytes'].map((name) =>
    Number(fields.get(name) ?? Number.NaN),
  );
  if (!/^\d+$/.test(seed) || !isReal(temperature) || !isReal(topK) || !isReal(topP) || !isReal(length)) return null;
  return {
    prompt: fields.get('prompt') ?? '',
    options: { seed: BigInt(seed), temperature, topK, topP },
    file: fields.get('file') ?? '',
    model: fields.get('model') ?? '',
    length,
    checksum: fields.get('sha256') ?? '',
  };
}

export async function checksumOf(chunks: readonly Uint8Array[], length: number): Promise<string> {
  if (!('subtle' in crypto)) return '';
  const bytes = new Uint8Array(length);
  let at = 0;
  for (const chunk of chunks) {
    const rest = chunk.subarray(0, length - at);
    bytes.set(rest, at);
    at += rest.length;
  }
  const digest = new Uint8Array(await crypto.subtle.digest('SHA-256', bytes));
  return Array.from(digest.subarray(0, 4), (byte) => byte.toString(16).padStart(2, '0')).join('');
}

function isReal(value: number | undefined): value is number {
  return value !== undefined && Number.isFinite(value);
}
