// How fast it is here, beside what this machine can do at most.
// SPDX-License-Identifier: MIT

import { useSignal } from '@preact/signals';
import type { ComponentType } from 'preact';
import { useEffect } from 'preact/hooks';
import { bench, reportOf, runBench, stopBench, type Bench } from '../bench.js';
import { Copy } from '../parts/Copy.js';
import type { ChartProps } from '../parts/SpeedChart.js';
import { choice, model, phase } from '../state.js';

export function Measure() {
  const { value: found } = bench;
  const isMeasuring = found?.state === 'measuring';
  return (
    <div class="panel-text">
      <p class="hint">
        About five seconds: what dot products and memory give here at most, what the engine’s products reach, and the
        model that writes; shares are of the first. Other programs and tabs slow it down.
      </p>
      <div class="row">
        <button
          class="button small"
          id="bench"
          type="button"
          disabled={!model.value || (!isMeasuring && phase.value === 'writing')}
          onClick={() => {
            if (isMeasuring) stopBench();
            else if (model.value && choice.value) void runBench(model.value, choice.value);
          }}
        >
          {isMeasuring ? 'Stop' : found ? 'Measure again' : 'Measure'}
        </button>
        {found?.state === 'measured' && <Copy id="bench-copy" text={() => reportOf(found)} />}
        <span class="hint" id="bench-said" role="status">
          {found?.state === 'failed' ? `It could not be measured: ${found.said}.` : found?.said}
        </span>
      </div>
      {found && <Result found={found} />}
    </div>
  );
}

/** The library that draws it is fetched with the first result; it knows no browsers without a language. */
function Chart(props: ChartProps) {
  const state = useSignal<{ readonly Part: ComponentType<ChartProps> | null; readonly problem: string }>({
    Part: null,
    problem: '',
  });
  useEffect(() => {
    import('../parts/SpeedChart.js').then(
      ({ SpeedChart }) => (state.value = { Part: SpeedChart, problem: '' }),
      (error: unknown) => (state.value = { Part: null, problem: String(error) }),
    );
  }, []);
  const { Part, problem } = state.value;
  if (Part) return <Part {...props} />;
  return (
    <div class="chart" id="bench-chart">
      {problem !== '' && <p class="hint">The chart could not be drawn: {problem}.</p>}
    </div>
  );
}

const gmac = (rate: number): string => `${rate.toFixed(1)} GMAC/s`;

function Result({ found }: { found: Bench }) {
  const { limits, kernels, rates, products, model: name, firstByteMs } = found;
  const used = kernels?.kernels.find(({ inUse }) => inUse);
  const rows: [name: string, id: string, value: string, of: number | null][] = [];
  if (limits) {
    rows.push(['Dot products alone', 'limit-dot', `${gmac(limits.dot)}, ${limits.instruction}`, 1]);
    rows.push(['Memory', 'limit-memory', `${limits.memory.toFixed(1)} GB/s of 64 MB`, null]);
  }
  if (limits && typeof used?.gmacPerS === 'number')
    rows.push([
      'The engine’s product',
      'bench-kernel',
      `${gmac(used.gmacPerS)}, ${used.name}`,
      used.gmacPerS / limits.dot,
    ]);
  const [write, ...reads] = rates;
  const isBusy = limits !== null && (used?.gmacPerS ?? 0) > limits.dot;
  const read = reads.reduce((best, { bytesPerSecond }) => Math.max(best, bytesPerSecond), 0);
  for (const [title, id, rate] of [
    ['Writing', 'bench-write', write?.bytesPerSecond ?? 0],
    ['Reading', 'bench-read', read],
  ] as const) {
    if (rate === 0) continue;
    const work = products === null ? null : (rate * products) / 1e9;
    const said = `${Math.round(rate).toLocaleString('en')} bytes/s${work === null ? '' : `, ${gmac(work)}`}`;
    rows.push([title, id, said, work === null || !limits ? null : work / limits.dot]);
  }
  if (firstByteMs !== null) rows.push(['First byte', 'bench-first', `${firstByteMs.toFixed(0)} ms`, null]);
  return (
    <>
      <dl class="rows bench-rows">
        {rows.map(([title, id, value, share]) => (
          <div key={id}>
            <dt>{title}</dt>
            <dd id={id}>
              {value}
              {share !== null && share < 1 && !isBusy && ` · ${(100 * share).toFixed(0)} %`}
            </dd>
          </div>
        ))}
      </dl>
      {isBusy && (
        <p class="hint">
          Something else had the machine meanwhile: the limit came out below what was reached, so there are no shares.
          Measure again.
        </p>
      )}
      {limits && rates.length > 2 && (
        <Chart rates={rates} products={products} limits={limits} product={used?.gmacPerS ?? null} model={name} />
      )}
    </>
  );
}
