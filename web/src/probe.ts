// What the engine would run on here, and how fast, without a model.
// SPDX-License-Identifier: MIT

import { Client, type Assets, type PlaceInfo, type Runtime } from './client.js';
import { TernError } from './errors.js';
import type { KernelsReport } from './protocol.js';

export interface ProbeOptions {
  /** As for load(). */
  runtime?: Runtime;
  /** As for load(). */
  assets?: Assets;
}

export interface Capabilities extends KernelsReport {
  /** Variant, kernel and thread that load() would choose, and why not others. */
  readonly runtime: PlaceInfo;
}

/**
 * Starts an engine, tests which kernels are exact on this machine and measures those for about 0.2 seconds. load() does
 * the same, shorter, while the file arrives. Where the clock is too coarse, rates are null and nothing else changes.
 */
export async function probe(options: ProbeOptions = {}): Promise<Capabilities> {
  const { client, info } = await Client.start(options.runtime ?? 'auto', options.assets ?? {}, 1);
  try {
    const { report, engine } = await client.probe();
    return { ...report, runtime: { ...info, ...engine } };
  } finally {
    client.close(new TernError('closed', 'the measurement is over'));
  }
}
