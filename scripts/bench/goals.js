// What the engine is to reach, each goal computed from the rows of one run; goals that the run does not cover are left out.

import { kPublished } from './options.js';

const percent = (x) => `${Math.round(100 * x)} %`;
const times = (x) => `${x.toPrecision(3)} x`;

/** @returns {{goal: string, found: string, value: number, reached: boolean}[]} */
export function goals(rows) {
  const all = (engine, text) => rows.filter((row) => row.engine === engine && text.test(row.what));
  const best = (engine, text) => all(engine, text).reduce((a, b) => (a && a.value >= b.value ? a : b), undefined);
  const list = [];
  const add = (goal, at, value, show, least = true) => {
    if (value === undefined || !Number.isFinite(value)) return;
    const reached = least ? value >= at : value <= at;
    list.push({ goal, found: `${show(value)} ${reached ? '(reached)' : '(missed)'}`, value, reached });
  };
  const share = (goal, text) => add(goal, 0.85, best('chromium', text)?.share, percent);
  const ratio = (goal, at, ours, theirs, show = times) =>
    add(goal, at, ours && theirs ? ours.value / theirs.value : undefined, show);

  share('2048x2048 in Chromium, of the dot rate, goal 85 %', /^2048x2048, /);
  share('8192x4096 in Chromium, of the dot rate, goal 85 %', /^8192x4096, /);
  share('16384x16384 in Chromium, of the limit from DRAM, goal 85 %', /^16384x16384, /);
  const simd = best('chromium', /^2048x2048, simd128$/);
  add('2048x2048 in Chromium without relaxed SIMD, goal 40 GMAC/s', 40, simd?.value, (x) => x.toPrecision(3));
  const tile = best('chromium', /^2048x2048 x 32 tokens, simd128$/);
  add('the same, 32 tokens, goal 70 GMAC/s', 70, tile?.value, (x) => x.toPrecision(3));
  for (const name of kPublished) {
    const model = name.replaceAll('.', '\\.');
    const [over] = all('chromium', new RegExp(`^memory over the packed weights, ${model}$`));
    add(`memory of ${name} in Chromium over its weights, goal 10 %`, 0.1, over && over.value / 100, percent, false);
  }
  const [first] = all('chromium', /^first of a prompt of 100, MMfreeLM-370M$/);
  const steps = best('chromium', /^package writes, MMfreeLM-370M$/);
  add(
    'first token after 100 of MMfreeLM-370M in Chromium, goal 45 single steps',
    45,
    first && steps && (first.value / 1000) * steps.value,
    (x) => x.toPrecision(3),
    false,
  );
  ratio(
    'decode MMfreeLM-370M, Chromium to native llama.cpp TQ2_0, goal 1.5 x',
    1.5,
    best('chromium', /^decode, MMfreeLM-370M, [^,]*$/),
    best('llama.cpp', /^decode, MMfreeLM-370M, TQ2_0$/),
  );
  for (const [size, least] of [
    ['1.3B', 1.4],
    ['20M', 1.3],
  ]) {
    const model = `random ${size.replace('.', '\\.')}`;
    const decode = best('chromium', new RegExp(`^decode, ${model}, [^,]*$`));
    const prefill = best('chromium', new RegExp(`^prefill, ${model}, [^,]*$`));
    const llama = (what) => best('llama.cpp', new RegExp(`^${what}, ${model}, TQ2_0$`));
    const wllama = best('wllama', new RegExp(`^decode, ${model}, TQ2_0$`));
    ratio(`decode ${size}, Chromium to native llama.cpp TQ2_0, goal ${least} x`, least, decode, llama('decode'));
    ratio(`prefill ${size}, Chromium to native llama.cpp TQ2_0, goal 1.5 x`, 1.5, prefill, llama('prefill'));
    if (size === '1.3B') {
      const reads = best('chromium', new RegExp(`^package reads, ${model}$`));
      ratio('prefill 1.3B in Chromium, the package to the engine alone, goal 90 %', 0.9, reads, prefill, percent);
      for (const work of ['reading', 'writing']) {
        const [most] = all('chromium', new RegExp(`^abort while ${work}, ${model}: most$`));
        add(
          `abort while ${work} 1.3B in Chromium, goal 20 ms`,
          20,
          most?.value,
          (x) => `${x.toPrecision(3)} ms`,
          false,
        );
      }
      ratio('decode 1.3B, Chromium to wllama TQ2_0, goal 25 x', 25, decode, wllama);
      add('decode 1.3B, Chromium, goal 24 bytes/s', 24, decode?.value, (x) => x.toPrecision(3));
      const one = best('chromium', new RegExp(`^package writes, ${model}$`));
      const two = best('chromium', new RegExp(`^package writes, ${model}, 2 threads$`));
      ratio('decode 1.3B, two threads to one, goal 1.5 x', 1.5, two, one);
    }
  }
  return list;
}
