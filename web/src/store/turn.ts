// One of all the tabs that want the same does it, and the others wait for it; but not for one that stands still.
// SPDX-License-Identifier: MIT

import { deferred } from '../deferred.js';

const kStillMs = 10_000;

/**
 * Resolves with what gives the turn to the next, when it is this page's turn, or when there is nothing to wait for: no
 * locks here, or whoever has the turn (perhaps a tab that its browser has put to sleep) makes no progress. `onWait` is
 * called if there is somebody before.
 */
export async function turn(
  name: string,
  signal: AbortSignal,
  progress: () => Promise<number>,
  onWait: () => void,
): Promise<() => void> {
  if (!('navigator' in globalThis && 'locks' in navigator)) return () => undefined;
  const { locks } = navigator;
  const first = await ask(locks, name, { ifAvailable: true });
  if (first) return first;
  onWait();
  for (let before = await progress(); ;) {
    const waiting = new AbortController();
    const stop = (): void => waiting.abort();
    const timer = setTimeout(stop, kStillMs);
    signal.addEventListener('abort', stop);
    try {
      const given = await ask(locks, name, { signal: waiting.signal });
      if (given) return given;
    } catch {
      signal.throwIfAborted();
      const now = await progress();
      if (now <= before) return () => undefined;
      before = now;
    } finally {
      clearTimeout(timer);
      signal.removeEventListener('abort', stop);
    }
  }
}

/** What gives it back; null: somebody has it. */
function ask(locks: LockManager, name: string, options: LockOptions): Promise<(() => void) | null> {
  const { promise, resolve, reject } = deferred<(() => void) | null>();
  locks
    .request(name, options, (lock) => {
      if (!lock) return resolve(null);
      const held = deferred<undefined>();
      resolve(() => held.resolve(undefined));
      return held.promise;
    })
    .catch(reject);
  return promise;
}
