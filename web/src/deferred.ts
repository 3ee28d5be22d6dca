// Promises that are settled from outside, that a signal can end, and that let others in.
// SPDX-License-Identifier: MIT

export interface Deferred<T> {
  readonly promise: Promise<T>;
  readonly resolve: (value: T) => void;
  readonly reject: (error: unknown) => void;
}

/** Promise.withResolvers, which browsers have only since 2024. */
export function deferred<T>(): Deferred<T> {
  let resolve: Deferred<T>['resolve'] = () => undefined;
  let reject: Deferred<T>['reject'] = () => undefined;
  const promise = new Promise<T>((onValue, onError) => {
    resolve = onValue;
    reject = onError;
  });
  return { promise, resolve, reject };
}

/** What was acquired on the way to something; given back, in reverse order, when the way is not gone to its end. */
export class Scope {
  readonly #undo: (() => void)[] = [];
  #left = false;

  /** `undo` runs when the scope is left, or at once if it has been. */
  add(undo: () => void): void {
    if (this.#left) undo();
    else this.#undo.push(undo);
  }

  leave(): void {
    this.#left = true;
    for (const undo of this.#undo.splice(0).reverse()) undo();
  }
}

/**
 * What `work` gives. When it fails or the signal is aborted, what it added to its scope is undone; an abort is answered
 * at once with the signal's reason, whatever the work is waiting for.
 */
export async function abortable<T>(signal: AbortSignal | undefined, work: (scope: Scope) => Promise<T>): Promise<T> {
  signal?.throwIfAborted();
  const scope = new Scope();
  const aborted = deferred<never>();
  const onAbort = (): void => aborted.reject(signal?.reason);
  signal?.addEventListener('abort', onAbort);
  try {
    return await Promise.race([work(scope), aborted.promise]);
  } catch (error) {
    scope.leave();
    throw error;
  } finally {
    signal?.removeEventListener('abort', onAbort);
  }
}

/** After the messages that have arrived were handled. A timer would wait 4 ms, a promise would not let them in. */
export function messagesRead(): Promise<void> {
  return new Promise((resolve) => {
    if ('setImmediate' in globalThis) return void setImmediate(resolve);
    const { port1, port2 } = new MessageChannel();
    port1.onmessage = () => {
      port1.close();
      resolve();
    };
    port2.postMessage(null);
  });
}
