// Settings of the tests that run in Node.
// SPDX-License-Identifier: MIT

import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: { include: ['tests/web/**/*.test.ts'], testTimeout: 60_000, hookTimeout: 120_000 },
});
