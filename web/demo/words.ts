// How a model reads a text.
// SPDX-License-Identifier: MIT

import type { Model } from 'ternlm';

export function isOfBytes({ info }: Model): boolean {
  return info.metadata['tokenizer.ggml.model'] === 'byte';
}

/** As the model reads it: half a character is U+FFFD. */
export function wellFormed(words: string): string {
  return new TextDecoder('utf-8', { ignoreBOM: true }).decode(new TextEncoder().encode(words));
}
