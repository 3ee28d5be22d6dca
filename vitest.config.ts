// Settings of the tests that run in Node.
// SPDX-License-Identifier: MIT

import { defineConfig } from 'vitest/config';

// The limits only end what hangs; how fast something is, is a matter for the bench.
export default defineConfig({
  test: { include: ['tests/web/**/*.test.ts'], testTimeout: 300_000, hookTimeout: 300_000 },
});
