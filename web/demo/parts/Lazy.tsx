// A part of the page whose script is fetched when the panel that it is in is opened.
// SPDX-License-Identifier: MIT

import { useSignal } from '@preact/signals';
import type { ComponentType } from 'preact';
import { useEffect, useRef } from 'preact/hooks';

type State = { readonly Part: ComponentType | null; readonly problem: string };

export function lazily(load: () => Promise<ComponentType>): ComponentType {
  return function Lazy() {
    const state = useSignal<State>({ Part: null, problem: '' });
    const place = useRef<HTMLDivElement>(null);
    useEffect(() => {
      const panel = place.current?.closest('details');
      const fetchPart = (): void => {
        if (!panel?.open || state.value.Part) return;
        state.value = { Part: null, problem: '' };
        load().then(
          (Part) => (state.value = { Part, problem: '' }),
          (error: unknown) => (state.value = { Part: null, problem: String(error) }),
        );
      };
      fetchPart();
      panel?.addEventListener('toggle', fetchPart);
      return () => panel?.removeEventListener('toggle', fetchPart);
    }, []);
    const { Part, problem } = state.value;
    if (Part) return <Part />;
    return (
      <div class="panel-text" ref={place}>
        <p class="hint">
          {problem === '' ? '…' : `This part did not come: ${problem}. Closing and opening tries again.`}
        </p>
      </div>
    );
  };
}
