// Counts what the page asks of the network, so that "nothing leaves your device" can be watched.
// SPDX-License-Identifier: MIT

/** Calls `show` with the number of requests since `connectRequests` was called, now and whenever it changes. */
export function connectRequests(show: (count: number) => void): void {
  let count = 0;
  show(count);
  new PerformanceObserver((entries) => {
    count += entries.getEntries().length;
    show(count);
  }).observe({ type: 'resource' });
}
