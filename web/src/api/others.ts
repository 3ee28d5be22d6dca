// Model files of llama.cpp among ours: told apart by their first bytes, and turned into ours while they arrive.
// SPDX-License-Identifier: MIT

import { TernError } from '../errors.js';

type Bytes = Uint8Array<ArrayBuffer>;

/** What is read before it is decided; their settings come before their tokenizer. */
const kPeek = 4096;

/**
 * The file's pieces, as those of one of ours. `onOther` is told of each piece of a file that is none, before it is turned
 * into one; what does that is loaded only then.
 */
export async function* asOurs(
  pieces: AsyncGenerator<Bytes, void>,
  onOther: (piece: Bytes) => Promise<void>,
): AsyncGenerator<Bytes, void> {
  let isOther: boolean | null = null;
  let first = new Uint8Array(0);
  while (isOther === null) {
    const { value, done } = await pieces.next();
    if (done) break;
    first = first.length === 0 ? value : joined(first, value);
    isOther = isOfOthers(first);
  }
  async function* all(): AsyncGenerator<Bytes, void> {
    if (first.length > 0) yield first;
    yield* pieces;
  }
  if (isOther !== true) return yield* all();
  async function* told(): AsyncGenerator<Bytes, void> {
    for await (const piece of all()) {
      await onOther(piece);
      yield piece;
    }
  }
  const { translate } = await import('../gguf.js').catch((error: unknown) => {
    throw TernError.from(error, 'bad-assets', 'ternlm/gguf could not be loaded: ');
  });
  const source = told();
  yield* translate(source);
  for await (const piece of source) void piece; // what comes behind its last tensor is of its checksum, too
}

/** null: more of it is needed. */
function isOfOthers(bytes: Bytes): boolean | null {
  const text = new TextDecoder('latin1').decode(bytes.subarray(0, kPeek));
  if (text.length < 80) return 'GGUF'.startsWith(text.slice(0, 4)) ? null : false;
  if (text.slice(0, 4) !== 'GGUF' || text.slice(32, 52) !== 'general.architecture') return false;
  const name = text.slice(64, 64 + (bytes[56] ?? 0));
  if (name !== 'bitnet') return ['bitnet-25', 'bitnet-b1.58', 'llama'].includes(name);
  if (text.includes('bitnet.attention.head_count')) return true;
  return text.length < kPeek ? null : false;
}

function joined(a: Bytes, b: Bytes): Bytes {
  const both = new Uint8Array(a.length + b.length);
  both.set(a);
  both.set(b, a.length);
  return both;
}
