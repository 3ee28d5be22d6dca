// Where the text ends that a reader sees, if it shall stop before a text or expression: nothing of those is ever shown.
// SPDX-License-Identifier: MIT

import { kBytes, newDecoder, type Codec, type Decoder } from '../codec.js';
import { kNone, type Automaton } from './automaton.js';

/**
 * A decoder that keeps back what may be the beginning of a stop, and shows nothing of one or behind it. The engine stops
 * with the first byte at which one ends; of those that end there this takes the one that began first.
 */
export function stoppingDecoder(codec: Codec, before: Uint32Array, begins: boolean, stop: Automaton): Decoder {
  const reader = newDecoder(codec, before, begins);
  const writer = newDecoder(kBytes, Uint32Array.from(codec.decode(before)), false);
  let held = new Uint8Array(0); // not shown yet
  let threads = new Map<number, number>(); // states of the automaton, and where in `held` the leftmost of each began
  let stopped = false;
  const show = (count: number) => {
    const bytes = held.slice(0, count);
    held = held.slice(count);
    threads = new Map([...threads].map(([state, from]) => [state, from - count]));
    return { text: writer.push(bytes).text, bytes };
  };
  return {
    push(tokens) {
      const { bytes } = reader.push(tokens);
      let at = held.length;
      if (!stopped) held = concatenated(held, bytes);
      for (; at < held.length && !stopped; at++) {
        if (!threads.has(0)) threads.set(0, at);
        const next = new Map<number, number>();
        for (const [state, from] of [...threads].sort((a, b) => a[1] - b[1])) {
          const to = stop.next[state * stop.classes + (stop.classOf[held[at] ?? 0] ?? 0)] ?? kNone;
          if (to !== kNone && !next.has(to)) next.set(to, from);
        }
        threads = next;
        const ends = [...threads].filter(([state]) => stop.distance[state] === 0).map(([, from]) => from);
        if (ends.length === 0) continue;
        held = held.slice(0, Math.min(...ends));
        stopped = true;
        threads.clear();
      }
      return show(Math.min(held.length, ...threads.values()));
    },
    rest: () => show(held.length),
    finish: (cut) => writer.finish(cut),
  };
}

function concatenated(a: Uint8Array, b: Uint8Array): Uint8Array<ArrayBuffer> {
  const all = new Uint8Array(a.length + b.length);
  all.set(a);
  all.set(b, a.length);
  return all;
}
