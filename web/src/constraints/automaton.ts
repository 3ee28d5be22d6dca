// Deterministic automata over bytes: made of parts, without dead ends, as small as can be.
// SPDX-License-Identifier: MIT
//
// Subsets (Rabin and Scott 1959), then the coarsest partition (Hopcroft 1971). States are numbered in the order in which a
// walk over rising bytes finds them, so the same language always gives the same table.

import { Parts, tooLarge, type Language } from './language.js';

/** No way on. */
export const kNone = 0xffffffff;

const kMostStates = 20_000;

/** State 0 is the first; the language of one without states is empty. */
export interface Automaton {
  readonly states: number;
  /** Of bytes that no state tells apart. */
  readonly classes: number;
  /** Of each byte. */
  readonly classOf: Uint8Array;
  /** [states][classes] the state after a byte of the class, or kNone. */
  readonly next: Uint32Array;
  /** [states] the fewest bytes to acceptance: 0 where the text so far is one of the language. */
  readonly distance: Uint32Array;
}

/** `alphabet`: bytes that there are; the others lead nowhere. */
export function toAutomaton(language: Language, alphabet?: ReadonlySet<number>): Automaton {
  const parts = new Parts();
  const start = parts.state();
  const end = parts.add(language, start);
  return finish(subsets(parts, start, end, false, alphabet));
}

/** Reads any bytes and accepts with the first at which a text of the language ends. */
export function toSearch(language: Language): Automaton {
  const parts = new Parts();
  const start = parts.state();
  parts.edge(start, 0, 255, start);
  const begin = parts.state();
  parts.skip(start, begin);
  const end = parts.add(language, begin);
  return finish(subsets(parts, start, end, true));
}

interface Table {
  readonly classes: number;
  readonly classOf: Uint8Array;
  next: Uint32Array;
  accepts: boolean[];
}

/** `once`: nothing is read after acceptance. */
function subsets(parts: Parts, start: number, end: number, once: boolean, alphabet?: ReadonlySet<number>): Table {
  const { classes, classOf } = classesOf(parts, alphabet);
  const samples = Array.from({ length: classes }, (_, c) => classOf.indexOf(c));
  const numbers = new Map<string, number>();
  const sets: number[][] = [];
  const accepts: boolean[] = [];
  const next: number[] = [];
  const stateOf = (members: readonly number[]): number => {
    const set = closure(parts, members);
    const key = set.join();
    const known = numbers.get(key);
    if (known !== undefined) return known;
    if (sets.length >= kMostStates) throw tooLarge();
    numbers.set(key, sets.length);
    accepts.push(set.includes(end));
    return sets.push(set) - 1;
  };
  stateOf([start]);
  for (let state = 0; state < sets.length; state++) {
    for (const byte of samples) {
      const reached: number[] = [];
      if ((!alphabet || alphabet.has(byte)) && !(once && accepts[state])) {
        for (const member of sets[state] ?? []) {
          for (const { first, last, to } of parts.edges[member] ?? []) {
            if (byte >= first && byte <= last) reached.push(to);
          }
        }
      }
      next.push(once && accepts[state] ? state : reached.length === 0 ? kNone : stateOf(reached));
    }
  }
  return { classes, classOf, next: Uint32Array.from(next), accepts };
}

/** All that can be reached without a byte, rising, but for those that nothing leads away from by one. */
function closure(parts: Parts, members: readonly number[]): number[] {
  const seen = new Set(members);
  for (const member of seen) for (const to of parts.free[member] ?? []) seen.add(to);
  const matters = (member: number): boolean =>
    (parts.edges[member]?.length ?? 0) > 0 || (parts.free[member]?.length ?? 0) === 0;
  return [...seen].filter(matters).sort((a, b) => a - b);
}

function classesOf({ edges }: Parts, alphabet?: ReadonlySet<number>): { classes: number; classOf: Uint8Array } {
  const begins = new Uint8Array(257);
  for (const { first, last } of edges.flat()) begins[first] = begins[last + 1] = 1;
  for (let byte = 1; alphabet && byte < 256; byte++) {
    if (alphabet.has(byte) !== alphabet.has(byte - 1)) begins[byte] = 1;
  }
  let current = 0;
  const classOf = Uint8Array.from({ length: 256 }, (_, byte) => (byte > 0 ? (current += begins[byte] ?? 0) : 0));
  return { classes: current + 1, classOf };
}

/** Without dead ends, minimal, numbered anew. */
function finish(table: Table): Automaton {
  const { classes } = table;
  const alive = distances(table, kNone);
  table.next = table.next.map((to) => (to === kNone || alive[to] === kNone ? kNone : to));
  const groups = partition(table);
  const numbers = new Map<number, number>();
  const members: number[] = []; // one state of each group
  const numberOf = (state: number): number => {
    const group = groups[state] ?? 0;
    const known = numbers.get(group);
    if (known !== undefined) return known;
    numbers.set(group, members.length);
    return members.push(state) - 1;
  };
  const next: number[] = [];
  if (alive[0] !== kNone) numberOf(0);
  for (let n = 0; n < members.length; n++) {
    const state = members[n] ?? 0;
    for (let c = 0; c < classes; c++) {
      const to = table.next[state * classes + c] ?? kNone;
      next.push(to === kNone ? kNone : numberOf(to));
    }
  }
  const { classOf } = table;
  const distance = Uint32Array.from(members, (state) => alive[state] ?? kNone);
  return { states: members.length, classes, classOf, next: Uint32Array.from(next), distance };
}

/** States by what leads to them with a byte of class c: those of [from[c][to], from[c][to + 1]). */
function reversed({ next, classes, accepts }: Table, c: number): { starts: Uint32Array; froms: Uint32Array } {
  const states = accepts.length;
  const starts = new Uint32Array(states + 2);
  const to = (state: number): number => Math.min(next[state * classes + c] ?? states, states); // `states`: nowhere
  for (let state = 0; state < states; state++) starts[to(state) + 1] = (starts[to(state) + 1] ?? 0) + 1;
  for (let state = 0; state <= states; state++) starts[state + 1] = (starts[state + 1] ?? 0) + (starts[state] ?? 0);
  const places = starts.slice();
  const froms = new Uint32Array(states);
  for (let state = 0; state < states; state++) {
    const place = places[to(state)] ?? 0;
    froms[place] = state;
    places[to(state)] = place + 1;
  }
  return { starts, froms };
}

function distances(table: Table, never: number): Uint32Array {
  const states = table.accepts.length;
  const distance = new Uint32Array(states).fill(never);
  const reverse = Array.from({ length: table.classes }, (_, c) => reversed(table, c));
  const queue = table.accepts.flatMap((accepts, state) => (accepts ? [state] : []));
  for (const state of queue) distance[state] = 0;
  for (let i = 0; i < queue.length; i++) {
    const state = queue[i] ?? 0;
    for (const { starts, froms } of reverse) {
      for (const from of froms.subarray(starts[state], starts[state + 1])) {
        if (distance[from] !== never) continue;
        distance[from] = (distance[state] ?? 0) + 1;
        queue.push(from);
      }
    }
  }
  return distance;
}

/** The group of each state: states of one group accept the same texts. Nowhere is a state, too, that never accepts. */
function partition(table: Table): Uint32Array {
  const states = table.accepts.length; // and `states` itself: nowhere
  const { order, place, group, begins, sizes } = twoGroups(table.accepts);
  const reverse = Array.from({ length: table.classes }, (_, c) => {
    const { starts, froms } = reversed(table, c);
    return (to: number): Uint32Array => froms.subarray(starts[to], starts[to + 1]);
  });
  const waiting = begins.map((_, each) => each);
  const isWaiting = waiting.map(() => true);
  for (let splitter = waiting.pop(); splitter !== undefined; splitter = waiting.pop()) {
    isWaiting[splitter] = false;
    const begin = begins[splitter] ?? 0;
    const members = order.slice(begin, begin + (sizes[splitter] ?? 0));
    for (const leadsTo of reverse) {
      // To the front of its group goes each state from which the class leads into the splitter.
      const marked = new Map<number, number>();
      const mark = (state: number): void => {
        const own = group[state] ?? 0;
        const count = marked.get(own) ?? 0;
        const [here, front] = [place[state] ?? 0, (begins[own] ?? 0) + count];
        const other = order[front] ?? 0;
        [order[front], order[here]] = [state, other];
        [place[state], place[other]] = [front, here];
        marked.set(own, count + 1);
      };
      for (const to of members) {
        leadsTo(to).forEach(mark);
        if (to === states) mark(states); // nowhere leads to nowhere
      }
      for (const [own, count] of marked) {
        const size = sizes[own] ?? 0;
        if (count === size) continue;
        const made = begins.length;
        const front = begins[own] ?? 0;
        begins.push(front);
        sizes.push(count);
        begins[own] = front + count;
        sizes[own] = size - count;
        for (const state of order.subarray(front, front + count)) group[state] = made;
        const isSmaller = count <= size - count;
        isWaiting.push(false);
        const next = isWaiting[own] || isSmaller ? made : own;
        isWaiting[next] = true;
        waiting.push(next);
      }
    }
  }
  return group;
}

/** Those that accept, and the others with nowhere among them. */
function twoGroups(accepts: readonly boolean[]) {
  const yes = accepts.flatMap((each, state) => (each ? [state] : []));
  const no = [...accepts.flatMap((each, state) => (each ? [] : [state])), accepts.length];
  const order = Uint32Array.from([...yes, ...no]);
  const place = new Uint32Array(order.length);
  order.forEach((state, at) => (place[state] = at));
  const group = Uint32Array.from(order, (_, state) => (accepts[state] ? 0 : 1));
  return { order, place, group, begins: [0, yes.length], sizes: [yes.length, no.length] };
}
