// Slices stay near 8 ms whatever the speed of model and machine.
// SPDX-License-Identifier: MIT

import { describe, expect, test } from 'vitest';
import { Pace, kSliceMs } from '../../web/src/host/jobs.js';

/** Slices of a machine that does `perMs` multiply-adds in a millisecond, from the first to the `count`-th. */
function slices(pace: Pace, count: number, perMs: number): number[] {
  return Array.from({ length: count }, () => {
    const milliseconds = pace.budget / perMs;
    pace.learn(milliseconds);
    return milliseconds;
  });
}

describe('the length of a slice', () => {
  test.each([3e5, 1e6, 3e7, 5e8])('settles just below the limit at %f multiply-adds in a millisecond', (perMs) => {
    const last = slices(new Pace(), 20, perMs).at(-1) ?? 0;
    expect(last).toBeLessThanOrEqual(kSliceMs);
    expect(last).toBeGreaterThan(0.9 * kSliceMs);
  });

  test('never more than doubles from one to the next', () => {
    const pace = new Pace();
    for (let i = 0; i < 60; i++) {
      const before = pace.budget;
      pace.learn(0); // a clock too coarse to see it
      expect(pace.budget).toBeLessThanOrEqual(2 * before);
    }
    expect(Number.isSafeInteger(pace.budget)).toBe(true);
  });

  test('begins with what the kernels do, at half their speed, and never with less than a pace that knows nothing', () => {
    const [known, slow, unknown] = [new Pace(), new Pace(), new Pace()];
    known.expect(50e9);
    expect(known.budget).toBe((50e9 * kSliceMs) / 1000 / 2);
    slow.expect(1e6);
    expect(slow.budget).toBe(unknown.budget);
  });

  test('recovers in one slice from a machine that became ten times slower', () => {
    const pace = new Pace();
    slices(pace, 20, 3e7);
    const times = slices(pace, 2, 3e6);
    expect(times[0]).toBeGreaterThan(kSliceMs);
    expect(times[1]).toBeLessThanOrEqual(kSliceMs);
  });
});
