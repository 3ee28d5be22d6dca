// What the engine would run on here, and how fast, without a model.
// SPDX-License-Identifier: MIT

import { abortable } from '../deferred.js';
import type { KernelsReport } from '../engine/types.js';
import { TernError } from '../errors.js';
import { start, type Assets, type PlaceInfo, type Runtime } from '../link/start.js';
import { toLoadOrder, type CallOptions } from './options.js';

/** As for load(). */
export interface ProbeOptions extends CallOptions {
  runtime?: Runtime;
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
export async function probe(options?: ProbeOptions): Promise<Capabilities> {
  const { signal, runtime, assets } = toLoadOrder(options, 'signal runtime assets');
  return abortable(signal, async (scope) => {
    const { connection, place } = await start({ runtime, assets, threads: 1, integrity: null }, scope);
    const { report, engine } = await connection.ask({ kind: 'probe' }).answer;
    connection.close(new TernError('closed', 'the measurement is over'));
    return { ...report, runtime: { ...place, ...engine } };
  });
}
