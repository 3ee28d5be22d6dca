// Counts what scripts ask of the network, so that "nothing leaves your device" can be watched.
// SPDX-License-Identifier: MIT

/** Calls `onRequest` for each request of this page or worker from now on, whether it is let through or refused. */
export function watchRequests(onRequest: () => void): void {
  const counting = {
    apply(target: () => unknown, self: unknown, given: unknown[]): unknown {
      onRequest();
      return Reflect.apply(target, self, given);
    },
    construct(target: () => unknown, given: unknown[], made: () => unknown): object {
      onRequest();
      return Reflect.construct(target, given, made) as object;
    },
  };
  const wrap = (owner: object | undefined, name: string): void => {
    const found: unknown = owner && Reflect.get(owner, name);
    if (owner && typeof found === 'function') Reflect.set(owner, name, new Proxy(found, counting));
  };
  for (const name of ['fetch', 'WebSocket', 'EventSource', 'WebTransport']) wrap(globalThis, name);
  wrap(globalThis.XMLHttpRequest.prototype, 'send');
  wrap(globalThis.navigator, 'sendBeacon'); // a worker has none
  // Pictures, styles and modules are asked for without a call.
  new PerformanceObserver((entries) => {
    for (const entry of entries.getEntries()) {
      const by = entry instanceof PerformanceResourceTiming ? entry.initiatorType : '';
      if (!['fetch', 'xmlhttprequest', 'beacon', 'other'].includes(by)) onRequest();
    }
  }).observe({ type: 'resource' });
}
