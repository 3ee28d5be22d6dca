// Prints rows as text, and two runs side by side.

const show = (value) =>
  value >= 1000 ? Math.round(value).toLocaleString('en-US') : String(Number(value.toPrecision(3)));

const kNoLimit = 'limit not known: its loop was slower';

/**
 * The rows as aligned lines.
 * @returns {string}
 */
export function table(rows) {
  const cells = rows.map(({ engine, what, value, unit, share, limit }) => [
    engine,
    what,
    show(value),
    unit,
    limit === undefined ? '' : share === undefined ? kNoLimit : `${Math.round(100 * share)} % of ${limit}`,
  ]);
  return align([['engine', 'what', 'value', '', 'share of the limit'], ...cells], [2]);
}

function align(cells, right) {
  const widths = cells[0].map((_, column) => Math.max(...cells.map((row) => row[column].length)));
  return cells
    .map((row) =>
      row
        .map((cell, column) => (right.includes(column) ? cell.padStart(widths[column]) : cell.padEnd(widths[column])))
        .join('  ')
        .trimEnd(),
    )
    .join('\n');
}

const kLeastChange = 0.03;

/** What a row of a model measured, with whatever kernel level: another level is a change to be seen, not another row. */
const subject = ({ key, of, engine }) =>
  ['decode', 'prefill', 'prompt'].includes(of?.bench)
    ? [engine, of.bench, of.model, of.prompt_bytes, of.threads].join(' | ')
    : key;

/**
 * Two results, row by row: before, after, and the change; better is +. Rows of only one of them come last. A change below
 * 3 %, or below what the rounds of one of the runs differ by, is not judged.
 */
export function compare(before, after) {
  const old = new Map(before.rows.map((row) => [subject(row), row]));
  const both = after.rows.filter((row) => old.has(subject(row)));
  const cells = both.map((row) => {
    const was = old.get(subject(row));
    const change = was.value === 0 ? 0 : row.value / was.value - 1;
    const percent = `${change >= 0 ? '+' : '-'}${Math.abs(100 * change).toFixed(1)} %`;
    const noise = Math.max(kLeastChange, was.spread ?? 0, row.spread ?? 0);
    const judged = Math.abs(change) < noise ? '' : change > 0 === row.higher ? 'better' : 'worse';
    const what = was.what === row.what ? row.what : `${row.what} (before: ${was.of.level})`;
    return [row.engine, what, show(was.value), show(row.value), row.unit, percent, judged];
  });
  const now = new Set(after.rows.map(subject));
  const single = [
    ...before.rows.filter((row) => !now.has(subject(row))).map(({ key }) => `only before: ${key}`),
    ...after.rows.filter((row) => !old.has(subject(row))).map(({ key }) => `only after: ${key}`),
  ];
  const machines =
    before.machine.processor === after.machine.processor
      ? []
      : [`different machines: ${before.machine.processor} and ${after.machine.processor}`];
  return [
    ...machines,
    align([['engine', 'what', 'before', 'after', '', 'change', ''], ...cells], [2, 3, 5]),
    ...single,
  ].join('\n');
}
