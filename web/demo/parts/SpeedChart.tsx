// Speed against how much is read at once, beside the limits of the machine.
// SPDX-License-Identifier: MIT

import { useEffect, useRef } from 'preact/hooks';
import uPlot from 'uplot';
import 'uplot/dist/uPlot.min.css';
import type { Limits, Rate } from '../bench.js';

export interface ChartProps {
  readonly rates: readonly Rate[];
  readonly products: number | null;
  readonly limits: Limits;
  /** Of the engine's product alone, GMAC/s. */
  readonly product: number | null;
  readonly model: string;
}

const kHeight = 240;
/** `distr` of a scale: the type is an enumeration that is not there at run time. */
const kLogarithmic: { readonly distr: never } = { distr: 3 as never };

export function SpeedChart({ rates, products, limits, product, model }: ChartProps) {
  const place = useRef<HTMLDivElement>(null);
  const xs = rates.map(({ at }) => at);
  useEffect(() => {
    const { current } = place;
    if (!current) return;
    const colour = (name: string): string => getComputedStyle(current).getPropertyValue(name);
    const [ink, line] = [colour('--soft'), colour('--line')];
    const flat = (value: number): number[] => xs.map(() => value);
    const series: [label: string, colour: string, values: (number | null)[], dash?: number[]][] =
      products === null
        ? [[`${model}, bytes/s`, '--accent', rates.map(({ bytesPerSecond }) => bytesPerSecond)]]
        : [
            [model, '--accent', rates.map(({ bytesPerSecond }) => (bytesPerSecond * products) / 1e9)],
            ['dot products alone', '--minus', flat(limits.dot), [6, 4]],
            // A byte holds four weights.
            ['weights from memory', '--zero', flat(4 * limits.memory), [2, 4]],
          ];
    if (products !== null && product !== null) series.push(['the product alone', '--ink', flat(product), [6, 4]]);
    const axis = { stroke: ink, grid: { stroke: line, width: 1 }, ticks: { stroke: line, width: 1 } };
    const chart = new uPlot(
      {
        width: current.clientWidth,
        height: kHeight,
        scales: { x: { time: false, ...kLogarithmic, log: 2 }, y: kLogarithmic },
        axes: [
          {
            ...axis,
            label: 'bytes at once (1: writing)',
            labelSize: 22,
            labelFont: '12px system-ui',
            splits: () => xs,
          },
          { ...axis, label: products === null ? 'bytes/s' : 'GMAC/s', labelSize: 20, labelFont: '12px system-ui' },
        ],
        legend: { live: false },
        series: [
          { label: 'at once' },
          ...series.map(([label, name, , dash]) => ({
            label,
            stroke: colour(name),
            width: 2,
            points: { show: dash === undefined },
            ...(dash && { dash }),
          })),
        ],
      },
      [xs, ...series.map(([, , values]) => values)],
      current,
    );
    let frame = 0; // in it, since a chart that is drawn anew is observed anew
    const resized = new ResizeObserver(() => {
      cancelAnimationFrame(frame);
      frame = requestAnimationFrame(() => {
        if (chart.width !== current.clientWidth) chart.setSize({ width: current.clientWidth, height: kHeight });
      });
    });
    resized.observe(current);
    return () => {
      cancelAnimationFrame(frame);
      resized.disconnect();
      chart.destroy();
    };
  }, [rates, limits, product, products]);
  return <div class="chart" id="bench-chart" ref={place} role="img" aria-label={describe(rates, model)} />;
}

function describe(rates: readonly Rate[], model: string): string {
  const said = rates.map(({ at, bytesPerSecond }) => `${at === 1 ? 'writing' : at}: ${Math.round(bytesPerSecond)}`);
  return `Bytes a second of ${model} by how many are read at once: ${said.join(', ')}`;
}
