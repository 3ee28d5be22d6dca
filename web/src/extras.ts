// Options of a generation that need more than the engine: what reads them is loaded only for those who use them.
// SPDX-License-Identifier: MIT

/** What the whole output must be; exactly one of these. It can always be met: a `maxTokens` too small for it is refused. */
export type Constraint =
  /** The output matches it from beginning to end. No lookaround, backreferences, \b or \p{…}; flags i, s and u. */
  | { readonly regex: string | RegExp }
  /** The output is JSON that is valid for it, written compactly, properties in the order of the schema. */
  | { readonly jsonSchema: unknown }
  /** The output is one of these texts. */
  | { readonly choices: readonly string[] };

export type StopText = string | Uint8Array | RegExp;

/** Texts, their bytes, or regular expressions. */
export type Stop = StopText | readonly StopText[];

export interface Extras {
  /**
   * Ends the output before the first of these in it, with the finish 'stop'. `text` and `bytes` end there, wherever the
   * pieces in which they come have their borders; `tokens`, and the text of a session, end with the token that completed
   * it. Regular expressions as in a constraint, and without ^ and $.
   */
  readonly stop?: Stop | undefined;
  /** What the whole output must be. It decides over `utf8`: its texts are well-formed. */
  readonly constraint?: Constraint | undefined;
  /** How likely the model held each token, and so many of the likeliest besides it (0 to 256; true: none). */
  readonly logprobs?: boolean | number | undefined;
}

export interface Likelihood {
  readonly token: number;
  /** What it stands for. */
  readonly bytes: Uint8Array<ArrayBuffer>;
  /**
   * Natural logarithm of its probability as the model has it: before temperature, penalty, cuts and constraint. In floating
   * point, so that its last digits may differ between browsers.
   */
  readonly logprob: number;
}

export interface TokenLogprob extends Likelihood {
  /** The likeliest tokens in its place, as many as were asked for, the likeliest first. */
  readonly top: readonly Likelihood[];
}
