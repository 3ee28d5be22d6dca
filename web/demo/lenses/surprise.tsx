// Surprise: what each byte cost the model, as colours; and at one place, all that it expected there.
// SPDX-License-Identifier: MIT

import { computed, effect, signal } from '@preact/signals';
import { useEffect } from 'preact/hooks';
import { Oracle, drawn, type Choice, type Expected } from '../expected.js';
import type { Marks, Stretch } from '../paint.js';
import { Slider } from '../parts/Slider.js';
import { costs, keepScores, type Cost } from '../scores.js';
import * as sheet from '../sheet.js';
import { hovered, model, phase, settings } from '../state.js';
import { isOfBytes } from '../words.js';
import { branch } from '../writer.js';
import type { Lens } from './index.js';

export const surprise: Lens = { name: 'surprise', title: 'Surprise', Panel, marks };

/** In bits per character, where the next colour begins. */
const kLevels = [0.5, 1.5, 3, 5, 8];
const kTop = 10;

/** The place that is looked at: where the pointer is, else where the cursor is, else the end. */
const place = computed(() => hovered.value ?? sheet.caret.value ?? sheet.text.value.length);

const expected = signal<Expected | null>(null);

/** The costs of the characters: those of their tokens. */
function marks(): Marks {
  const levels: Stretch[][] = kLevels.map(() => []);
  for (const { at, end, bits } of stretches.value) {
    const found = levels[kLevels.filter((least) => bits / Math.max(1, end - at) >= least).length - 1];
    const last = found?.at(-1);
    if (last?.[1] === at) found?.splice(-1, 1, [last[0], end]);
    else found?.push([at, end]);
  }
  const { value: at } = place;
  return {
    ...Object.fromEntries(levels.map((found, level) => [`heat-${level + 1}`, found])),
    looked: at < sheet.text.value.length ? [[at, endOf(at)]] : [],
  };
}

/** Tokens that end no character go with the one that they are part of. */
const stretches = computed(() => {
  const found: { at: number; end: number; bits: number }[] = [];
  let bits = 0;
  for (const cost of costs.value) {
    bits += cost.bits;
    if (cost.end === cost.at) continue;
    found.push({ at: cost.at, end: cost.end, bits });
    bits = 0;
  }
  return found;
});

function endOf(at: number): number {
  return at + String.fromCodePoint(sheet.text.value.codePointAt(at) ?? 32).length;
}

/** The token at the place. */
const looked = computed<Cost | null>(() => {
  const at = place.value;
  return costs.value.find((cost) => cost.at <= at && at < cost.end) ?? null;
});

function connect(): () => void {
  const stopScores = keepScores();
  const end = effect(() => {
    const { value: current } = model;
    if (!current) return;
    const oracle = new Oracle(current);
    const stop = effect(() => {
      if (phase.value === 'writing') return;
      const at = looked.value?.at ?? place.value;
      void oracle.expect(sheet.text.value, at).then(
        (found) => found && (expected.value = found),
        () => undefined, // the model was closed
      );
    });
    return () => {
      stop();
      oracle.close();
    };
  });
  return () => {
    end();
    stopScores();
    hovered.value = null;
    expected.value = null;
  };
}

function Panel() {
  useEffect(connect, []);
  return (
    <div class="lens-text surprise">
      <Whole />
      <Place />
    </div>
  );
}

/** What the text cost as a whole. */
function Whole() {
  const all = costs.value;
  const bytes = all.reduce((sum, cost) => sum + cost.bytes, 0);
  const bits = all.reduce((sum, cost) => sum + cost.bits, 0);
  return (
    <div class="scale">
      <p>
        <b id="bits-per-byte">{bytes === 0 ? '–' : (bits / bytes).toFixed(2)}</b> bits a byte over{' '}
        <span id="scored">{bytes.toLocaleString('en')}</span>
      </p>
      <p class="legend" aria-label="The darker, the more the model was surprised">
        {kLevels.map((least, level) => (
          <span key={least} class={`heat-${level + 1}`}>
            {least}
          </span>
        ))}
      </p>
    </div>
  );
}

function Place() {
  const { value: found } = expected;
  const token = looked.value;
  if (!found || found.choices.length === 0 || !model.value) {
    return <p>Point at a letter, or put the cursor before it: what did the model expect there?</p>;
  }
  const { temperature, topK, topP } = settings;
  const shares = drawn(found.choices, { temperature: temperature.value, topK: topK.value, topP: topP.value });
  const canBranch = phase.value !== 'writing' && phase.value !== 'loading';
  const words = token && sheet.text.value.slice(token.at, token.end);
  return (
    <>
      <p id="looked">
        {words ? (
          <>
            <b>{named(words)}</b> cost {token.bits.toFixed(2)} bits; {rank(token.rank)}. On average a{' '}
            {isOfBytes(model.value) ? 'byte' : 'piece'} costs {token.entropy.toFixed(2)} there.
          </>
        ) : (
          'What comes next:'
        )}
      </p>
      <ol class="likely" id="likely">
        {found.choices.slice(0, kTop).map((choice, i) => {
          const label = labelOf(choice);
          const share = shares[i] ?? 0;
          return (
            <li key={label}>
              <button
                type="button"
                disabled={!canBranch || !isText(choice)}
                title={`${percent(choice.probability)} before the settings; go on with it`}
                onClick={() => branch(found.at, new TextDecoder().decode(choice.bytes))}
              >
                <code>{label}</code>
                <meter min={0} max={1} value={share} aria-label={`Share of ${label}`} />
                <span class="figure">{percent(share)}</span>
              </button>
            </li>
          );
        })}
      </ol>
      {isOfBytes(model.value) && <Spectrum choices={found.choices} shares={shares} />}
      <Slider id="lens-temperature" title="Temperature" value={temperature} range={[0.1, 2, 0.05]} />
      <Slider id="lens-top-k" title="Top-k" value={topK} range={[1, 256, 1]} />
      <Slider id="lens-top-p" title="Top-p" value={topP} range={[0.05, 1, 0.05]} />
    </>
  );
}

const kTicks = { '␣': 0x20, '0': 0x30, A: 0x41, a: 0x61, '80': 0x80, c0: 0xc0 };

/** All 256 bytes in their order: what the model says, faintly, and what would be drawn. A step of height is a factor. */
function Spectrum({ choices, shares }: { choices: readonly Choice[]; shares: readonly number[] }) {
  const bars = (probabilityOf: (choice: Choice, i: number) => number): string =>
    choices
      .map((choice, i) => {
        const height = Math.max(0, 1 + Math.log2(probabilityOf(choice, i)) / 20) * 48;
        return height > 0 ? `M${(choice.bytes[0] ?? 0) + 0.5} 48v-${height.toFixed(1)}` : '';
      })
      .join('');
  return (
    <figure class="spectrum">
      <svg viewBox="0 0 256 60" role="img" aria-label="Probability of each of the 256 bytes">
        <path class="said" d={bars(({ probability }) => probability)} />
        <path class="drawn" id="spectrum" d={bars((_, i) => shares[i] ?? 0)} />
        {Object.entries(kTicks).map(([label, byte]) => (
          <text key={byte} x={byte} y={58}>
            {label}
          </text>
        ))}
      </svg>
    </figure>
  );
}

function rank(before: number): string {
  if (before === 0) return 'it was the first choice';
  return `${before.toLocaleString('en')} ${before === 1 ? 'was' : 'were'} likelier`;
}

function percent(share: number): string {
  return share === 0 ? '–' : share < 0.001 ? '<0.1 %' : `${(share * 100).toFixed(1)} %`;
}

/** Whether it can be put into a text as it is. */
function isText({ bytes }: Choice): boolean {
  const words = new TextDecoder().decode(bytes);
  return words !== '' && !/[\ufffd\0]/.test(words);
}

function labelOf(choice: Choice): string {
  const { bytes } = choice;
  if (isText(choice)) return named(new TextDecoder().decode(bytes));
  if (bytes.length === 1 && String(bytes[0]) === model.value?.info.metadata['tokenizer.ggml.eos_token_id'])
    return 'end';
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join(' ') || 'end';
}

function named(words: string): string {
  return words.replaceAll(' ', '␣').replaceAll('\n', '↵');
}
