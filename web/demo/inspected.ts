// What is in a model file that the reader opens: its tensors, and the shares of -1, 0 and +1 as they are counted.
// SPDX-License-Identifier: MIT

import { signal } from '@preact/signals';
import { readGguf, type GgufTensor, type TernaryShares } from 'ternlm/gguf';
import { messageOf } from './measured.js';

export interface Inspected {
  readonly name: string;
  readonly size: number;
  readonly keys: readonly (readonly [name: string, value: string])[];
  readonly tensors: readonly GgufTensor[];
  /** Of those that were counted, by name. */
  readonly shares: ReadonlyMap<string, TernaryShares>;
  readonly state: 'counting' | 'counted' | 'stopped' | 'failed';
  readonly problem: string;
}

export const inspected = signal<Inspected | null>(null);

let asked = 0;

export async function inspect(name: string, data: Blob): Promise<void> {
  const mine = ++asked;
  const set = (change: Partial<Inspected>): void => {
    if (mine === asked && inspected.value) inspected.value = { ...inspected.value, ...change };
  };
  const none = { keys: [], tensors: [], shares: new Map<string, TernaryShares>(), problem: '' };
  inspected.value = { name, size: data.size, ...none, state: 'counting' };
  try {
    const { keys, tensors, shares } = await readGguf(await plain(data));
    set({ keys: Array.from(keys, ([key, value]) => [key, shown(value)] as const), tensors });
    const found = new Map<string, TernaryShares>();
    for await (const each of shares) {
      if (mine !== asked) return; // which ends the reading
      found.set(each.name, each);
      set({ shares: new Map(found) });
    }
    set({ state: 'counted' });
  } catch (error) {
    set({ state: 'failed', problem: messageOf(error) });
  }
}

/** What was counted so far stays. */
export function stopCounting(): void {
  asked++;
  if (inspected.value?.state === 'counting') inspected.value = { ...inspected.value, state: 'stopped' };
}

/** The file as it was before gzip, if it went through that. */
async function plain(data: Blob): Promise<ReadableStream<Uint8Array>> {
  const [first, second] = new Uint8Array(await data.slice(0, 2).arrayBuffer());
  const isGzip = first === 0x1f && second === 0x8b;
  return isGzip ? data.stream().pipeThrough(new DecompressionStream('gzip')) : data.stream();
}

const kMostLetters = 120;

function shown(value: unknown): string {
  if (Array.isArray(value)) return `${value.length.toLocaleString('en')} values`;
  const words = String(value);
  return words.length > kMostLetters ? `${words.slice(0, kMostLetters)}…` : words;
}
