// Slices stay near 8 ms whatever the speed of model and machine.
// SPDX-License-Identifier: MIT

import { describe, expect, test } from 'vitest';
import { Pace, kSliceMs } from '../../web/src/host/jobs.js';

/** Slices of a machine that needs `msPerByte`, from the first to the `count`-th. */
function slices(pace: Pace, count: number, msPerByte: (slice: number) => number): number[] {
  return Array.from({ length: count }, (_, i) => {
    const bytes = pace.bytes;
    const milliseconds = bytes * msPerByte(i);
    pace.learn(bytes, milliseconds);
    return milliseconds;
  });
}

describe('the length of a slice', () => {
  test.each([0.02, 0.3, 2, 7.9])('settles just below the limit at %f ms a byte', (msPerByte) => {
    const times = slices(new Pace(16), 20, () => msPerByte);
    const last = times.at(-1) ?? 0;
    expect(last).toBeLessThanOrEqual(kSliceMs);
    expect(last).toBeGreaterThan(kSliceMs / 2);
  });

  test('is one byte where a byte takes longer than a slice', () => {
    const pace = new Pace(16);
    slices(pace, 3, () => 30);
    expect(pace.bytes).toBe(1);
  });

  test('never more than doubles from one to the next', () => {
    const pace = new Pace(1);
    for (let i = 0; i < 20; i++) {
      const before = pace.bytes;
      pace.learn(before, 0); // a clock too coarse to see it
      expect(pace.bytes).toBeLessThanOrEqual(2 * before);
    }
    expect(pace.bytes).toBeLessThanOrEqual(1024);
  });

  test('recovers in one slice from a machine that became ten times slower', () => {
    const pace = new Pace(16);
    slices(pace, 20, () => 0.1);
    const times = slices(pace, 2, () => 1);
    expect(times[0]).toBeGreaterThan(kSliceMs);
    expect(times[1]).toBeLessThanOrEqual(kSliceMs);
  });
});
