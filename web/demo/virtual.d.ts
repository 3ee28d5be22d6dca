// The module that models-plugin.ts makes.
// SPDX-License-Identifier: MIT

declare module 'virtual:published-models' {
  const published: readonly import('./published.js').PublishedModel[];
  export default published;
}
