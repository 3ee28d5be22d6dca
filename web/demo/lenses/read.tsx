// Read: whose words are whose, and how to write.
// SPDX-License-Identifier: MIT

import { Meters } from '../parts/Meters.js';
import { wide } from '../state.js';
import type { Lens } from './index.js';

export const read: Lens = { name: 'read', title: 'Read', Panel };

function Panel() {
  if (!wide.value) return <Meters />;
  return (
    <div class="lens-text">
      <p>
        One text, <span class="own-words">yours</span> and the model’s. Type anywhere in it: the model goes on after
        your words, and what it had written there before comes back with Undo.
      </p>
      <p class="keys">
        <kbd>Ctrl Enter</kbd> writes · <kbd>Esc</kbd> stops · <kbd>Ctrl Z</kbd> undoes
      </p>
    </div>
  );
}
