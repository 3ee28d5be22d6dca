// Counts what the page asks of the network, so that "nothing leaves your device" can be watched.
// SPDX-License-Identifier: MIT

let observer: PerformanceObserver | null = null;

/** Calls `show` with the number of requests since the last call of `connectRequests`, now and whenever it changes. */
export function connectRequests(show: (count: number) => void): void {
  let count = 0;
  show(count);
  observer?.disconnect();
  observer = new PerformanceObserver((entries) => {
    count += entries.getEntries().length;
    show(count);
  });
  observer.observe({ type: 'resource' });
}
