// What is in a model file: how many weights are -1, 0 and +1 in all and in each matrix, its tensors, its keys.
// SPDX-License-Identifier: MIT

import type { TernaryShares } from 'ternlm/gguf';
import { megabytes } from '../card.js';
import { stopCounting, type Inspected } from '../inspected.js';

export function Tensors({ file, refused }: { file: Inspected; refused: string }) {
  const all = [...file.shares.values()].reduce(
    (sum, each) => ({
      name: '',
      minus: sum.minus + each.minus,
      zero: sum.zero + each.zero,
      plus: sum.plus + each.plus,
    }),
    { name: '', minus: 0, zero: 0, plus: 0 },
  );
  const ternary = file.tensors.filter(({ type }) => /^(TQ[12]_0|I2_S)$/.test(type)).length;
  return (
    <div class="inspected" id="inspected">
      <p class="file-name">
        {file.name}
        <span class="figure">{megabytes(file.size)}</span>
      </p>
      {file.state === 'failed' && <p id="inspect-problem">It cannot be looked into: {file.problem}.</p>}
      {refused !== '' && <p id="refused">It was not opened: {refused}.</p>}
      {ternary > 0 && (
        <>
          <Shares of={all} isLarge />
          <p class="shares-text" id="shares" role="status">
            <span class="minus">−1</span> {percent(all.minus, all)} · <span class="zero">0</span>{' '}
            {percent(all.zero, all)} · <span class="plus">+1</span> {percent(all.plus, all)} of{' '}
            {(all.minus + all.zero + all.plus).toLocaleString('en')} weights
          </p>
        </>
      )}
      {file.tensors.length > 0 && ternary === 0 && <p>It has no ternary matrix: no weights of −1, 0 and +1 alone.</p>}
      {file.state === 'counting' && ternary > 0 && (
        <div class="row">
          <progress aria-label="Counted" max={ternary} value={file.shares.size} />
          <button class="button small" type="button" onClick={stopCounting}>
            Stop
          </button>
        </div>
      )}
      {file.tensors.length > 0 && (
        <div class="tensors" tabIndex={0} role="region" aria-label="Tensors">
          <table>
            <thead>
              <tr>
                <th scope="col">{file.tensors.length} tensors</th>
                <th scope="col">−1 · 0 · +1</th>
                <th scope="col">Shape</th>
                <th scope="col">Type</th>
              </tr>
            </thead>
            <tbody>
              {file.tensors.map(({ name, shape, type }) => {
                const shares = file.shares.get(name);
                return (
                  <tr key={name}>
                    <th scope="row">{name.replace(/\.weight$/, '')}</th>
                    <td>{shares ? <Shares of={shares} /> : ''}</td>
                    <td>{shape.join(' × ')}</td>
                    <td>{type}</td>
                  </tr>
                );
              })}
            </tbody>
          </table>
        </div>
      )}
      {file.keys.length > 0 && (
        <details class="keys-of-file">
          <summary>{file.keys.length} keys</summary>
          <dl class="rows">
            {file.keys.map(([name, value]) => (
              <div key={name}>
                <dt>{name}</dt>
                <dd>{value}</dd>
              </div>
            ))}
          </dl>
        </details>
      )}
    </div>
  );
}

function percent(part: number, { minus, zero, plus }: TernaryShares): string {
  const sum = minus + zero + plus;
  return sum === 0 ? '…' : `${((100 * part) / sum).toFixed(1)} %`;
}

/** A bar in three colours. */
function Shares({ of, isLarge = false }: { of: TernaryShares; isLarge?: boolean }) {
  const { minus, zero, plus } = of;
  const sum = Math.max(1, minus + zero + plus);
  const label = `−1 ${percent(minus, of)}, 0 ${percent(zero, of)}, +1 ${percent(plus, of)}`;
  return (
    <svg class={isLarge ? 'shares large' : 'shares'} viewBox="0 0 1 1" preserveAspectRatio="none" role="img">
      <title>{label}</title>
      <rect class="minus" width={minus / sum} height={1} />
      <rect class="zero" x={minus / sum} width={zero / sum} height={1} />
      <rect class="plus" x={(minus + zero) / sum} width={plus / sum} height={1} />
    </svg>
  );
}
