// Counts what scripts ask of the network, so that "nothing leaves your device" can be watched.
// SPDX-License-Identifier: MIT

/** Where the page's own scripts and modules lie, this one among them: fetched when a part of the page is opened. */
const kParts = import.meta.url.replace(/[^/]*$/, '');

/**
 * Calls `onRequest` for each request of this page or worker from now on, whether it is let through or refused; but not for
 * files of the page itself, of which nothing but their names is asked.
 */
export function watchRequests(onRequest: () => void): void {
  type Call = (...given: unknown[]) => unknown;
  const wrap = (owner: object | undefined, name: string, isFree?: (given: readonly unknown[]) => boolean): void => {
    const found: unknown = owner && Reflect.get(owner, name);
    if (!owner || typeof found !== 'function') return;
    const counting: ProxyHandler<Call> = {
      apply(target, self, given): unknown {
        if (!isFree?.(given)) onRequest();
        return Reflect.apply(target, self, given);
      },
      construct(target, given, made) {
        onRequest();
        return Reflect.construct(target, given, made) as object;
      },
    };
    Reflect.set(owner, name, new Proxy(found as Call, counting));
  };
  wrap(globalThis, 'fetch', isPart);
  for (const name of ['WebSocket', 'EventSource', 'WebTransport']) wrap(globalThis, name);
  wrap(globalThis.XMLHttpRequest.prototype, 'send');
  wrap(globalThis.navigator, 'sendBeacon'); // a worker has none
  // Pictures, styles and modules are asked for without a call.
  new PerformanceObserver((entries) => {
    for (const entry of entries.getEntries()) {
      const by = entry instanceof PerformanceResourceTiming ? entry.initiatorType : '';
      if (!['fetch', 'xmlhttprequest', 'beacon', 'other'].includes(by) && !isPartAt(entry.name)) onRequest();
    }
  }).observe({ type: 'resource' });
}

/** What fetch() was given: nothing but the name of a part can leave the device with it. */
function isPart([resource, options]: readonly unknown[]): boolean {
  return (typeof resource === 'string' || resource instanceof URL) && isBare(options) && isPartAt(String(resource));
}

/** Options that carry nothing. */
function isBare(options: unknown): boolean {
  return Object.keys(options ?? {}).every((name) => ['signal', 'credentials'].includes(name));
}

function isPartAt(address: string): boolean {
  return import.meta.env.PROD && address.startsWith(kParts) && !/[?#]/.test(address);
}
