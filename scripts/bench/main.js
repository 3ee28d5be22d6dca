// npm run bench: measures the engine natively and in browsers, and others beside it; prints a table, writes JSON.
import { mkdirSync, readFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { fileURLToPath } from 'node:url';
import { missing } from '../../tests/browsers/drivers.js';
import { build } from './build.js';
import { inBrowser, native } from './engines.js';
import { goals } from './goals.js';
import { findModels } from './models.js';
import { kHelp, parse } from './options.js';
import { save, say } from './output.js';
import { peers } from './peers.js';
import { leftOut, machine } from './processes.js';
import { toRows } from './rows.js';
import { compare, table } from './table.js';

const kRoot = fileURLToPath(new URL('../..', import.meta.url)).replace(/\/$/, '');
const note = (text) => process.stderr.write(`bench: ${text}\n`);

function read(file) {
  const result = JSON.parse(readFileSync(file, 'utf8'));
  if (!Array.isArray(result.rows)) throw new Error(`${file}: expected a result of npm run bench`);
  return result;
}

/** What has been measured of one checkout so far, in `file` after each engine: a run that is stopped leaves that. */
class Result {
  #lines = new Map(); // by engine

  constructor(root, file, options) {
    this.root = root;
    this.file = file;
    this.content = { date: new Date().toISOString(), machine: machine(), options, rows: [], goals: [] };
    mkdirSync(dirname(file), { recursive: true });
  }

  add(engine, more) {
    this.#lines.set(engine, [...(this.#lines.get(engine) ?? []), ...more]);
    this.content.rows = [...this.#lines].flatMap(([name, all]) => toRows(name, all));
    this.content.goals = goals(this.content.rows);
    save(this.file, `${JSON.stringify(this.content, null, 1)}\n`);
  }
}

/** The browsers to measure in: one that was named must be here, of all those that could be asked the others will do. */
function browsersHere(options) {
  return options.browsers.filter((browser) => {
    const absent = missing(browser);
    if (absent && options.browsersNamed) throw new Error(`--browsers: ${absent}`);
    if (absent) note(`${browser}: ${absent}`);
    return !absent;
  });
}

async function measure(asked) {
  const options = { ...asked, browsers: browsersHere(asked) };
  const models = await findModels(kRoot, options.models, note);
  const now = new Result(kRoot, options.out, options);
  const before =
    options.against && new Result(options.against, options.out.replace(/(\.json)?$/, '-before.json'), options);
  const sides = before ? [before, now] : [now];
  for (const { root } of sides) await build(root, options, models, note);
  now.add(
    'convert.py',
    models.flatMap(({ conversion }) => conversion ?? []),
  );
  for (let round = 1; round <= options.rounds; round++) {
    for (const side of sides) {
      if (options.rounds > 1 || before) note(`round ${round} of ${options.rounds}${before ? `, ${side.root}` : ''}`);
      if (options.native) side.add('native', await native(side.root, options, models, note));
      for (const browser of options.browsers) {
        side.add(browser, await inBrowser(side.root, browser, options, models, note));
      }
    }
    if (options.peers) {
      for (const [engine, more] of Object.entries(await peers(kRoot, options, models, note))) now.add(engine, more);
    }
  }
  say(before ? compare(before.content, now.content) : table(now.content.rows));
  const reached = now.content.goals.map(({ goal, found }) => `${goal}: ${found}`);
  if (reached.length > 0) say(`\n${reached.join('\n')}`);
  note(`written to ${sides.map(({ file }) => file).join(' and ')}`);
  if (leftOut.length > 0) {
    note(`not everything was measured: ${leftOut.join('; ')}`);
    process.exitCode = 1;
  }
}

try {
  const options = parse(process.argv.slice(2));
  if (options.help) say(kHelp);
  else if (options.compare) say(compare(...options.compare.map(read)));
  else await measure(options);
} catch (error) {
  const readerHasGone = error.cause?.code === 'EPIPE';
  if (!readerHasGone) note(error.message);
  process.exitCode = readerHasGone ? 141 : 2; // as SIGPIPE would end it
}
