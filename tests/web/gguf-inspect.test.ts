// What is in a GGUF file: tensors as the writer wrote them, and the shares of -1, 0 and +1 counted one weight at a time.
import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { TernError } from '../../web/src/errors.js';
import { readGguf, type GgufTensor, type TernaryShares } from '../../web/src/gguf.js';

const read = (path: string): Uint8Array<ArrayBuffer> =>
  new Uint8Array(readFileSync(new URL(`../../${path}`, import.meta.url)));

/** In pieces that fit nothing. */
function streamOf(bytes: Uint8Array<ArrayBuffer>, onCancel = (): void => undefined): ReadableStream<Uint8Array> {
  let at = 0;
  return new ReadableStream({
    pull(controller) {
      if (at >= bytes.length) return controller.close();
      controller.enqueue(bytes.subarray(at, (at += 1001)));
    },
    cancel: onCancel,
  });
}

async function all(bytes: Uint8Array<ArrayBuffer>) {
  const { keys, tensors, shares } = await readGguf(streamOf(bytes));
  const counted: TernaryShares[] = [];
  for await (const each of shares) counted.push(each);
  return { keys, tensors, counted };
}

const named = (tensors: readonly GgufTensor[], name: string): GgufTensor | undefined =>
  tensors.find((tensor) => tensor.name === name);

/** The definition of ggml: digit n of a byte is its nth digit to the base 3, of 256 times a fraction. */
function slowly(bytes: Uint8Array, at: number, weights: number): number[] {
  const counts = [0, 0, 0];
  const add = (digit: number): void => void (counts[digit] = (counts[digit] ?? 0) + 1);
  for (let block = 0; block < weights / 256; block++) {
    const from = at + 54 * block;
    for (let power = 1, n = 0; n < 5; n++, power *= 3)
      for (let i = 0; i < 48; i++) add(Math.floor((3 * (((bytes[from + i] ?? 0) * power) % 256)) / 256));
    for (let power = 1, n = 0; n < 4; n++, power *= 3)
      for (let i = 48; i < 52; i++) add(Math.floor((3 * (((bytes[from + i] ?? 0) * power) % 256)) / 256));
  }
  return counts;
}

describe('readGguf()', () => {
  test('tells keys and tensors of a model, and counts the weights of every ternary one', async () => {
    const bytes = read('models/tinystories-3m5.gguf');
    const { keys, tensors, counted } = await all(bytes);
    expect(keys.get('general.architecture')).toBe('hgrnbit');
    expect(named(tensors, 'token_embd.weight')?.type).toBe('I8');
    const ternary = tensors.filter(({ type }) => type === 'TQ1_0');
    expect(counted.map(({ name }) => name)).toEqual(ternary.map(({ name }) => name));
    expect(ternary.length).toBeGreaterThan(10);
    for (const [i, { minus, zero, plus }] of counted.entries()) {
      const { shape = [] } = ternary[i] ?? {};
      expect(minus + zero + plus).toBe(shape.reduce((a, b) => a * b, 1));
      expect(Math.abs(minus - plus) / (minus + plus)).toBeLessThan(0.2); // those of training are even
    }
    // The last one ends with the file, but for what fills it up.
    const start = bytes.length - tensors.reduce((sum, each) => sum + each.bytes, 0);
    expect(start % 32 < 32 && start > 0).toBe(true);
    const first = tensors.findIndex(({ name }) => name === ternary[0]?.name);
    const before = tensors.slice(first).reduce((sum, each) => sum + each.bytes, 0);
    const { shape = [] } = ternary[0] ?? {};
    const weights = shape.reduce((a, b) => a * b, 1);
    const padding = bytes.length - before;
    expect([counted[0]?.minus, counted[0]?.zero, counted[0]?.plus]).toEqual(
      slowly(bytes, padding - (padding % 32), weights),
    );
  });

  test.each(['tiny_bitnet', 'tiny_hnet', 'tiny_mamba', 'tiny_superfloat'])('reads %s', async (name) => {
    const { tensors, counted } = await all(read(`tests/golden/${name}.gguf`));
    expect(tensors.every(({ type }) => !type.startsWith('type '))).toBe(true);
    expect(counted.length).toBe(tensors.filter(({ type }) => /^TQ|I2_S/.test(type)).length);
  });

  test('leaving the shares ends the stream', async () => {
    let isOver = false;
    const { shares } = await readGguf(streamOf(read('models/tinystories-3m5.gguf'), () => void (isOver = true)));
    for await (const { name } of shares) if (name !== '') break;
    expect(isOver).toBe(true);
  });

  test.each([
    ['no GGUF', new TextEncoder().encode('Once upon a time there was a little fox.'), 'unsupported'],
    ['a file that ends in its header', read('models/tinystories-3m5.gguf').subarray(0, 200), 'incomplete'],
  ])('refuses %s', async (_, bytes, code) => {
    const refused = await readGguf(streamOf(bytes)).catch((error: unknown) => error);
    expect(refused).toBeInstanceOf(TernError);
    expect(refused).toMatchObject({ code });
  });
});
