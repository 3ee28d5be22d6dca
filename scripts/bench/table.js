// Prints rows as text, and two runs side by side.

const show = (value) =>
  value >= 1000 ? Math.round(value).toLocaleString('en-US') : String(Number(value.toPrecision(3)));

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
    share === undefined ? '' : `${Math.round(100 * share)} % of ${limit}`,
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

/** Two results, row by row: before, after, and the change; better is +. Rows of only one of them come last. */
export function compare(before, after) {
  const old = new Map(before.rows.map((row) => [row.key, row]));
  const both = after.rows.filter(({ key }) => old.has(key));
  const cells = both.map((row) => {
    const was = old.get(row.key).value;
    const change = was === 0 ? 0 : row.value / was - 1;
    const percent = `${change >= 0 ? '+' : '-'}${Math.abs(100 * change).toFixed(1)} %`;
    const judged = Math.abs(change) < 0.05 ? '' : change > 0 === row.higher ? 'better' : 'worse';
    return [row.engine, row.what, show(was), show(row.value), row.unit, percent, judged];
  });
  const now = new Set(after.rows.map(({ key }) => key));
  const single = [
    ...before.rows.filter(({ key }) => !now.has(key)).map(({ key }) => `only before: ${key}`),
    ...after.rows.filter(({ key }) => !old.has(key)).map(({ key }) => `only after: ${key}`),
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
