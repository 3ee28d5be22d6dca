// Loads what a generation needs for constraints, stops and probabilities; those without cost nothing.
// SPDX-License-Identifier: MIT

import type { Codec } from '../codec.js';
import type { Aid } from '../constraints/index.js';
import { TernError } from '../errors.js';
import type { Extras } from '../extras.js';

/** TernError 'bad-option' from what it loads; 'bad-assets' where that cannot be had. */
export function loadAid(extras: Extras, codec: Codec): Promise<Aid> {
  const loading = load(extras, codec);
  loading.catch(() => undefined); // reported to whoever awaits it, and to nobody else
  return loading;
}

async function load(extras: Extras, codec: Codec): Promise<Aid> {
  try {
    const { Aid } = await import('../constraints/index.js');
    return new Aid(extras, codec);
  } catch (error) {
    throw TernError.from(error, 'bad-assets', 'ternlm/constraints could not be loaded: ');
  }
}
