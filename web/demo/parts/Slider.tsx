// A number that is moved: its name, its value, and what it does.
// SPDX-License-Identifier: MIT

import type { Signal } from '@preact/signals';

interface SliderProps {
  readonly id: string;
  readonly title: string;
  readonly value: Signal<number>;
  readonly range: readonly [least: number, most: number, step: number];
  readonly children?: string;
}

export function Slider({ id, title, value, range: [min, max, step], children }: SliderProps) {
  return (
    <label class="slider" for={id}>
      {title}{' '}
      <output id={`${id}-shown`} for={id}>
        {value.value.toFixed(step < 1 ? 2 : 0)}
      </output>
      <input
        id={id}
        type="range"
        min={min}
        max={max}
        step={step}
        value={value}
        onInput={({ currentTarget }) => (value.value = currentTarget.valueAsNumber)}
      />
      {children && <span class="hint">{children}</span>}
    </label>
  );
}
