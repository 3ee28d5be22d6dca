// Tells a web page from the file that was asked for: what servers send in place of what they do not have.
// SPDX-License-Identifier: MIT

/** True for bytes that begin like a web page; a model begins with "GGUF", a module with a zero byte. */
export function looksLikeHtml(bytes: Uint8Array): boolean {
  const start = new TextDecoder().decode(bytes.subarray(0, 256)).trimStart();
  return /^<(!doctype|html|head|!--)/i.test(start);
}
