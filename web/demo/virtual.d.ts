// The modules that the plugins of the build make.
// SPDX-License-Identifier: MIT

declare module 'virtual:published-models' {
  const published: readonly import('./published.js').PublishedModel[];
  export default published;
}

/** What wat-plugin.ts makes of a file. */
declare module '*.wat' {
  const bytes: Uint8Array<ArrayBuffer>;
  export default bytes;
}
