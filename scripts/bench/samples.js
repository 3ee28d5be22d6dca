// What it gains to write several outputs at once, with the weights read once for all of them, through the built package in
// Node: tokens a second of n generations together, and of one alone.
//
//   npm run build && node scripts/bench/samples.js --model models/tinystories-3m5.gguf --n 2,4,8,16 --rounds 5
//
// All are measured in turn in every round, and the best of each counts. A line of JSON for each n.
import { performance } from 'node:perf_hooks';
import { parseArgs } from 'node:util';

const root = new URL('../../', import.meta.url);
const { values } = parseArgs({
  options: {
    model: { type: 'string', default: new URL('models/tinystories-3m5.gguf', root).pathname },
    n: { type: 'string', default: '2,4,8,16' },
    tokens: { type: 'string', default: '300' },
    rounds: { type: 'string', default: '5' },
  },
});
const { load } = await import(new URL('dist/index.js', root).href);
const { samples } = await import(new URL('dist/entries/samples.js', root).href);

const model = await load(values.model);
const counts = [1, ...values.n.split(',').map(Number)];
const best = new Map(counts.map((n) => [n, 0]));

for (let round = 0; round < Number(values.rounds); round++) {
  for (const n of counts) {
    // Hot, so that none ends before the others.
    const options = { n, seed: 1, maxTokens: Number(values.tokens), temperature: 1 };
    const generations = await samples(model, 'Once upon a time', options);
    const began = performance.now();
    const results = await Promise.all(generations.map((each) => each.result));
    const tokens = results.reduce((sum, each) => sum + each.tokens.length, 0);
    best.set(n, Math.max(best.get(n), (tokens * 1000) / (performance.now() - began)));
  }
}
for (const [n, rate] of best) {
  const gain = Number((rate / best.get(1)).toFixed(2));
  console.log(JSON.stringify({ model: model.info.name, n, tokensPerSecond: Math.round(rate), gain }));
}
await model.close();
