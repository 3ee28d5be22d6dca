// An output that is read: what its reader does not want any more, nobody computes.
// SPDX-License-Identifier: MIT

/** `chunks`, whose reader may leave before its first look: then, and whenever it does, `leave` is called at once. */
export function readerOf<T>(
  chunks: AsyncGenerator<T, void, undefined>,
  leave: () => void,
): AsyncGenerator<T, void, undefined> {
  const end = async (): Promise<IteratorResult<T, void>> => {
    leave();
    return chunks.return();
  };
  return {
    next: () => chunks.next(),
    return: end,
    throw: async (error: unknown) => {
      await end();
      throw error;
    },
    [Symbol.asyncIterator]() {
      return this;
    },
    [Symbol.asyncDispose]: async () => void (await end()),
  };
}
