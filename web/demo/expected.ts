// What the model expects at one place of the text, as the settings would have it drawn.
// SPDX-License-Identifier: MIT

import type { Model, Session } from 'ternlm';
import { isOfBytes, wellFormed } from './words.js';

/** A token that may come; probabilities sum to 1 over all of them. */
export interface Choice {
  readonly bytes: Uint8Array;
  /** As the model says it. */
  readonly probability: number;
}

export interface Expected {
  /** Where: in the text, between two characters. */
  readonly at: number;
  readonly choices: readonly Choice[];
}

const kMost = 256;

/** Goes to any place of the text; what was read on the way is not read again, but restored. */
export class Oracle {
  readonly #model: Model;
  readonly #session: Session;
  #read = ''; // by the session
  #asked = 0;
  #working: Promise<unknown> = Promise.resolve();

  constructor(model: Model) {
    this.#model = model;
    this.#session = model.session();
  }

  /** Null: meanwhile something else was asked. */
  async expect(text: string, at: number): Promise<Expected | null> {
    const mine = ++this.#asked;
    const answer = this.#working.then(() => (mine === this.#asked ? this.#expect(wellFormed(text), at) : null));
    this.#working = answer.catch(() => undefined);
    return answer;
  }

  async #expect(text: string, at: number): Promise<Expected> {
    const before = text.slice(0, at);
    const same = isOfBytes(this.#model) ? common(this.#read, before) : 0; // pieces may be cut otherwise
    await this.#session.rewind(new TextEncoder().encode(before.slice(0, same)).length);
    this.#read = before.slice(0, same);
    if (same < before.length) await this.#session.feed(before.slice(same));
    this.#read = before;
    if (!isOfBytes(this.#model)) return { at, choices: await this.#pieces(text.slice(at)) };
    const { probabilities } = await this.#session.next();
    const choices = Array.from(probabilities, (probability, token) => ({
      bytes: Uint8Array.of(token),
      probability,
    }));
    return { at, choices: choices.sort((a, b) => b.probability - a.probability).slice(0, kMost) };
  }

  /** What the pieces are is told of a text that is scored; of its end, nothing. */
  async #pieces(rest: string): Promise<readonly Choice[]> {
    for await (const { top } of this.#session.scoreStream(rest, { top: kMost })) return top;
    return [];
  }

  close(): void {
    this.#asked++;
    void this.#session.close();
  }
}

/** How much of its beginning one text has in common with another; whole characters. */
function common(one: string, other: string): number {
  let at = 0;
  while (at < one.length && one[at] === other[at]) at++;
  return /[\udc00-\udfff]/.test(other[at] ?? '') ? at - 1 : at;
}

/** What would be drawn, with the sampler's cuts; of those that are left, the shares. */
export function drawn(
  choices: readonly Choice[],
  { temperature, topK, topP }: { temperature: number; topK: number; topP: number },
): number[] {
  const weights = choices.slice(0, topK).map(({ probability }) => probability ** (1 / temperature));
  const sum = weights.reduce((all, weight) => all + weight, 0);
  let reached = 0;
  const kept = weights.map((weight) => {
    const isIn = reached < topP * sum;
    reached += weight;
    return isIn ? weight : 0;
  });
  const left = kept.reduce((all, weight) => all + weight, 0);
  return choices.map((_, i) => (kept[i] ?? 0) / left);
}
