// State: what the model remembers, a row of numbers for each block, as a picture that moves; and for how long.
// SPDX-License-Identifier: MIT

import { computed, effect, signal } from '@preact/signals';
import { useEffect, useRef } from 'preact/hooks';
import type { Model } from 'ternlm';
import { halfLives, layoutOf, memoryIn, type Layout, type Memory } from '../memory.js';
import * as sheet from '../sheet.js';
import { model, phase } from '../state.js';
import type { Lens } from './index.js';

export const state: Lens = {
  name: 'state',
  title: 'State',
  Panel,
  marks: () => ({ looked: [[place.value - 1, place.value]] }),
};

/** Bytes of which the picture is. */
const kRows = 48;
/** Bytes over which fading is measured. */
const kMeasured = 64;

const place = computed(() => sheet.caret.value ?? sheet.text.value.length);

/** What was remembered after each of the last bytes, the newest last. */
const history = signal<readonly Memory[]>([]);
/** For each block, the half-life of each channel in bytes. */
const lives = signal<readonly number[][] | null>(null);

function connect(): () => void {
  return effect(() => {
    const { value: current } = model;
    const layout = current && layoutOf(current);
    [history.value, lives.value] = [[], null];
    return layout ? follow(current, layout) : undefined;
  });
}

/** Reads the text up to the place, and what comes after it as it comes. */
function follow(current: Model, layout: Layout): () => void {
  const session = current.session();
  let [isOver, read, wake] = [false, '', (): void => undefined];

  const work = async (): Promise<void> => {
    while (!isOver) {
      const target = sheet.text.peek().slice(0, place.peek());
      if (target === read) {
        if (phase.peek() !== 'writing' && !lives.peek() && target.length > kMeasured) {
          lives.value = await halfLives(session, layout, target.slice(0, -kMeasured), target.slice(-kMeasured));
        } else {
          await new Promise<void>((resolve) => (wake = resolve));
        }
        continue;
      }
      if (!target.startsWith(read) || read === '') {
        await session.reset();
        [history.value, read] = [[], ''];
      }
      const skipped = target.slice(read.length, Math.max(read.length, target.length - kRows));
      if (skipped !== '') await session.feed(skipped);
      const [next = ''] = target.slice(read.length + skipped.length);
      if (next !== '') await session.feed(next);
      read += skipped + next;
      history.value = [...history.peek(), memoryIn(await session.save(), layout)].slice(-kRows);
    }
  };

  const end = effect(() => {
    void [sheet.text.value, place.value, phase.value];
    wake();
  });
  void work().catch(() => undefined); // the model was closed, or has said elsewhere what went wrong
  return () => {
    isOver = true;
    wake();
    end();
    void session.close();
  };
}

function Panel() {
  useEffect(connect, []);
  const { value: current } = model;
  if (!current) return <p class="lens-text">The model is on its way.</p>;
  const layout = layoutOf(current);
  if (!layout) return <Unshown current={current} />;
  return (
    <div class="lens-text">
      <p>
        All that the model knows of the text are {(current.info.stateBytes / 4).toLocaleString('en')} numbers. Each line
        is what a block holds after one byte, the newest below; the channels that remember longest are on the left.
      </p>
      {layout.map(({ name, channels }, block) => (
        <Block key={name} name={name} block={block} channels={channels} />
      ))}
      <p class="hint">Half-life: after so many bytes half of it is forgotten, measured from the forget gates.</p>
    </div>
  );
}

function Unshown({ current }: { current: Model }) {
  const { architecture, stateBytesPerToken } = current.info;
  return (
    <p class="lens-text" id="unshown">
      {stateBytesPerToken > 0
        ? `This model keeps what it has read, ${stateBytesPerToken.toLocaleString('en')} bytes for each token, and looks at all of it again: nothing fades, so there is no half-life and no picture of one.`
        : `How a model of the architecture ${architecture} keeps its state is not known to this page, so it draws none.`}
    </p>
  );
}

function Block({ name, block, channels }: { name: string; block: number; channels: number }) {
  const canvas = useRef<HTMLCanvasElement>(null);
  useEffect(() => {
    const { current: picture } = canvas;
    if (!picture) return;
    return effect(() => {
      const rows = history.value.map((memory) => memory[block]);
      draw(picture, rows, orderOf(block, channels));
    });
  }, [block, channels]);
  const sorted = [...(lives.value?.[block] ?? [])].sort((a, b) => a - b);
  const at = (share: number): string => bytesOf(sorted[Math.floor(share * (sorted.length - 1))]);
  return (
    <figure class="memory">
      <canvas
        ref={canvas}
        id={`memory-${block}`}
        width={channels}
        height={kRows}
        role="img"
        aria-label={`What ${name} holds`}
      />
      <figcaption>
        {name}
        <span class="figure" id={`half-life-${block}`}>
          {sorted.length > 0 && `half-life ${at(0.5)} bytes, the slowest tenth ${at(0.9)}`}
        </span>
      </figcaption>
    </figure>
  );
}

function bytesOf(bytes = 0): string {
  return bytes > 9999 ? '>9999' : bytes.toFixed(bytes < 10 ? 1 : 0);
}

/** The channels, those first that remember longest. */
function orderOf(block: number, channels: number): number[] {
  const found = lives.value?.[block];
  const order = Array.from({ length: channels }, (_, i) => i);
  return found ? order.sort((a, b) => (found[b] ?? 0) - (found[a] ?? 0)) : order;
}

/** Blue below zero, red above it; a channel's own largest number of the picture has the full colour. */
function draw(canvas: HTMLCanvasElement, rows: readonly (Int32Array | undefined)[], order: readonly number[]): void {
  const context = canvas.getContext('2d');
  if (!context) return;
  const style = getComputedStyle(canvas);
  const colours = ['--minus-rgb', '--plus-rgb'].map((name) => style.getPropertyValue(name).split(' ').map(Number));
  const image = context.createImageData(order.length, kRows);
  order.forEach((channel, x) => {
    const most = rows.reduce((most, row) => Math.max(most, Math.abs(row?.[channel] ?? 0)), 1);
    rows.forEach((row, i) => {
      const value = (row?.[channel] ?? 0) / most;
      const [red = 0, green = 0, blue = 0] = colours[value < 0 ? 0 : 1] ?? [];
      const at = 4 * ((kRows - rows.length + i) * order.length + x);
      image.data.set([red, green, blue, Math.round(255 * Math.abs(value))], at);
    });
  });
  context.putImageData(image, 0, 0);
}
