// npm run bench: measures the engine natively and in browsers, and others beside it; prints a table, writes JSON.
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { fileURLToPath } from 'node:url';
import { inBrowser, native } from './engines.js';
import { goals } from './goals.js';
import { findModels } from './models.js';
import { kHelp, parse } from './options.js';
import { peers } from './peers.js';
import { machine } from './processes.js';
import { toRows } from './rows.js';
import { compare, table } from './table.js';

const kRoot = fileURLToPath(new URL('../..', import.meta.url)).replace(/\/$/, '');
const note = (text) => process.stderr.write(`bench: ${text}\n`);

function read(file) {
  const result = JSON.parse(readFileSync(file, 'utf8'));
  if (!Array.isArray(result.rows)) throw new Error(`${file}: expected a result of npm run bench`);
  return result;
}

async function measure(options) {
  const models = await findModels(kRoot, options.models, note);
  const result = { date: new Date().toISOString(), machine: machine(), options, rows: [], goals: [] };
  mkdirSync(dirname(options.out), { recursive: true });
  const lines = new Map(); // by engine
  // After each engine, so that a run that is stopped leaves what it has measured.
  const add = (engine, more) => {
    lines.set(engine, [...(lines.get(engine) ?? []), ...more]);
    result.rows = [...lines].flatMap(([name, all]) => toRows(name, all));
    result.goals = goals(result.rows);
    writeFileSync(options.out, `${JSON.stringify(result, null, 1)}\n`);
  };
  for (let round = 1; round <= options.rounds; round++) {
    if (options.rounds > 1) note(`round ${round} of ${options.rounds}`);
    if (options.native) add('native', await native(kRoot, options, models, note));
    for (const browser of options.browsers) add(browser, await inBrowser(kRoot, browser, options, models, note));
    if (options.peers) {
      for (const [engine, more] of Object.entries(await peers(kRoot, options, models, note))) add(engine, more);
    }
  }
  console.log(table(result.rows));
  if (result.goals.length > 0)
    console.log(`\n${result.goals.map(({ goal, found }) => `${goal}: ${found}`).join('\n')}`);
  note(`written to ${options.out}`);
}

try {
  const options = parse(process.argv.slice(2));
  if (options.help) console.log(kHelp);
  else if (options.compare) console.log(compare(...options.compare.map(read)));
  else await measure(options);
} catch (error) {
  note(error.message);
  process.exitCode = 2;
}
