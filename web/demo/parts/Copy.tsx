// A button that copies, and says whether it did.
// SPDX-License-Identifier: MIT

import { useSignal } from '@preact/signals';

const kSaid = 2500; // milliseconds

export function Copy({ id, text, children = 'Copy report' }: { id: string; text: () => string; children?: string }) {
  const said = useSignal('');
  const copy = async (): Promise<void> => {
    try {
      await navigator.clipboard.writeText(text());
      said.value = 'Copied ✓';
    } catch {
      said.value = 'Not allowed here';
    }
    setTimeout(() => (said.value = ''), kSaid);
  };
  return (
    <button class="button small" id={id} type="button" aria-live="polite" onClick={() => void copy()}>
      {said.value || children}
    </button>
  );
}
