// A generator of bytes as a pair of streams, or as all of its bytes.
// SPDX-License-Identifier: MIT

import type { Connection } from '../link/connection.js';

type Bytes = Uint8Array<ArrayBuffer>;

/** What makes bytes of bytes, piece by piece. */
export type Process = (input: AsyncIterable<Uint8Array>) => AsyncGenerator<Bytes, void>;

/**
 * What is written goes in, what comes out can be read. An error of either end is one of both, and so is the signal's reason,
 * and what ends the connection.
 */
export function through(
  process: Process,
  connection: Connection,
  signal: AbortSignal | undefined,
  leave: () => void,
): TransformStream<Uint8Array, Bytes> {
  const { readable, writable } = new TransformStream<Uint8Array, Uint8Array>();
  const reader = readable.getReader();
  const end = async (reason: unknown): Promise<void> => {
    signal?.removeEventListener('abort', onAbort);
    await reader.cancel(reason).catch(() => undefined);
  };
  const onAbort = (): void => void end(signal?.reason);
  signal?.addEventListener('abort', onAbort);
  connection.whenClosed(() => void end(connection.failure));
  const output = process({
    [Symbol.asyncIterator]: () => ({
      async next() {
        const { value, done } = await reader.read();
        signal?.throwIfAborted();
        if (connection.failure) throw connection.failure;
        return done ? { value: undefined, done } : { value, done };
      },
    }),
  });
  const source: UnderlyingDefaultSource<Bytes> = {
    async pull(controller) {
      try {
        const { value, done } = await output.next();
        if (!done) return controller.enqueue(value);
        controller.close();
        await end(undefined);
      } catch (error) {
        await end(error);
        throw error;
      }
    },
    async cancel(reason) {
      leave(); // what the generator waits for ends
      await end(reason);
      await output.return().catch(() => undefined);
    },
  };
  return { writable, readable: new ReadableStream(source, { highWaterMark: 0 }) };
}

/** All that comes out for one piece. */
export async function whole(process: Process, piece: Uint8Array): Promise<Bytes> {
  async function* input(): AsyncGenerator<Uint8Array, void> {
    yield piece;
  }
  const pieces: Bytes[] = [];
  for await (const each of process(input())) pieces.push(each);
  const all = new Uint8Array(pieces.reduce((size, each) => size + each.length, 0));
  let at = 0;
  for (const each of pieces) {
    all.set(each, at);
    at += each.length;
  }
  return all;
}
