// Keeps a keyboard and a screen reader where they were when what they were at can no longer be used.
// SPDX-License-Identifier: MIT

let last: Element | null = null;
document.addEventListener('focusin', ({ target }) => (last = target instanceof Element ? target : null));

/** After the page was drawn again. */
export function keepFocus(): void {
  const held = document.activeElement === document.body ? last : document.activeElement;
  if (!held || (held.isConnected && !held.matches(':disabled, [hidden], [hidden] *'))) return;
  const next = document.querySelector<HTMLElement>('#main-action:enabled, #retry') ?? document.getElementById('paper');
  next?.focus({ preventScroll: true });
}
