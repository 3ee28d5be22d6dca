// The module that models-plugin.ts makes.
// SPDX-License-Identifier: MIT

declare module 'virtual:published-models' {
  import type { PublishedModel } from './published.js';
  const published: readonly PublishedModel[];
  export default published;
}
