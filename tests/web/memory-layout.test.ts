// Where the demo page finds what fades in the state of each architecture: what it pushes there comes back smaller, elsewhere never.
import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { load, type Model } from '../../web/src/index.js';
import { halfLives, layoutOf } from '../../web/demo/memory.js';

const opened = async (path: string): Promise<Model> => load(readFileSync(new URL(`../../${path}`, import.meta.url)));

describe.each([
  ['models/tinystories-3m5.gguf', ['Block 1', 'Block 2', 'Block 3', 'Block 4']],
  ['models/tinystories-hnet-6m.gguf', null],
  ['tests/golden/tiny_hnet_2_stages.gguf', null],
  ['tests/golden/tiny_mamba.gguf', null],
])('%s', (path, names) => {
  test('has a place for every block, and what is put there fades within bytes', async () => {
    const model = await opened(path);
    const layout = layoutOf(model) ?? [];
    expect(layout.length).toBeGreaterThan(1);
    if (names) expect(layout.map(({ name }) => name)).toEqual(names);
    const session = model.session();
    const lives = await halfLives(
      session,
      layout,
      'Once upon a time there was a fox. ',
      'He liked to eat berries in the sun.',
    );
    expect(lives.map((block) => block.length)).toEqual(layout.map(({ channels }) => channels));
    // What lies beside a state is written anew with each byte, or never: within one, all of it has the same half-life.
    const soon = await halfLives(session, layout, 'Once upon a', ' ');
    for (const [i, block] of soon.entries()) {
      if (!layout[i]?.name.startsWith('Inner')) expect(new Set(block).size).toBeGreaterThan(1); // heads of a state space share theirs
    }
    for (const [i, block] of lives.entries()) {
      const sorted = [...block].sort((a, b) => a - b);
      const median = sorted[Math.floor(sorted.length / 2)] ?? NaN;
      expect(median, `${layout[i]?.name}: half-life ${median}`).toBeGreaterThan(0.05);
      expect(median, `${layout[i]?.name}: half-life ${median}`).toBeLessThan(5000);
    }
    await model.close();
  });
});

test.each(['tiny_bitnet', 'tiny_falcon'])('%s keeps what it has read: nothing fades', async (name) => {
  const model = await opened(`tests/golden/${name}.gguf`);
  expect(layoutOf(model)).toBe(null);
  expect(model.info.stateBytesPerToken).toBeGreaterThan(0);
  await model.close();
});
