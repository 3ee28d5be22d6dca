// Finds a prompt after which a random model never stops writing.
// SPDX-License-Identifier: MIT

import type { Model } from '../../web/src/index.js';

/** Greedy output either reaches an end of text or goes round in a circle; most prompts of a random model do the first. */
export async function findEndlessPrompt(model: Model): Promise<Uint8Array> {
  for (let byte = 0; byte < 254; byte++) {
    const prompt = Uint8Array.of(byte);
    const { finish } = await model.generate(prompt, { greedy: true, maxBytes: 5000 });
    if (finish === 'max-bytes') return prompt;
  }
  throw new Error('every one-byte prompt of this model ends: the test needs another model');
}
