// Chat templates of other models, written in Jinja: @huggingface/jinja, loaded only for a file that needs it.
// SPDX-License-Identifier: MIT

import { Template } from '@huggingface/jinja';
import { TernError, describe } from '../errors.js';

/** `names`: of the control tokens that a template speaks of. TernError: it cannot be read, or fails with these messages. */
export function templateOf(
  text: string,
  names: { readonly bos_token: string; readonly eos_token: string },
): (messages: readonly object[]) => string {
  const template = attempt('bad-file', 'the chat template in the file cannot be read', () => new Template(text));
  return (messages) =>
    attempt('bad-option', 'the chat template of the model fails with these messages', () =>
      template.render({ ...names, messages, add_generation_prompt: true }),
    );
}

function attempt<T>(code: 'bad-file' | 'bad-option', what: string, call: () => T): T {
  try {
    return call();
  } catch (error) {
    throw new TernError(code, `${what}: ${describe(error)}`, { cause: error });
  }
}
