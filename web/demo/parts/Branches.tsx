// The ways in which the text has gone on, side by side: the one that is on the sheet, and those before it.
// SPDX-License-Identifier: MIT

import * as sheet from '../sheet.js';
import { phase } from '../state.js';
import { switchTo } from '../writer.js';

export function Branches() {
  const others = sheet.branches.value;
  if (others.length === 0) return null;
  return (
    <section class="branches" aria-label="Branches" id="branches">
      <h2>How else it went on</h2>
      <ul>
        {others.map((branch) => {
          const { text } = branch.version;
          const start = Math.max(0, text.lastIndexOf(' ', branch.at - 24));
          return (
            <li key={branch}>
              <button
                type="button"
                disabled={phase.value === 'loading' || phase.value === 'broken'}
                title="Put it back on the sheet; this one stays here"
                onClick={() => switchTo(branch)}
              >
                <span class="before">
                  {start > 0 && '…'}
                  {text.slice(start, branch.at)}
                </span>
                {text.slice(branch.at)}
              </button>
            </li>
          );
        })}
      </ul>
    </section>
  );
}
