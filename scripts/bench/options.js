// The command line of the bench: what can be asked for, its help text, and errors that say what was expected.
import { resolve } from 'node:path';
import { parseArgs } from 'node:util';

export const kPresets = ['3.5M', '20M', '85M', '370M', '1.3B', '2.7B', 'BitNet-2B-4T'];
export const kPublished = ['MMfreeLM-370M', 'MMfreeLM-1.3B', 'MMfreeLM-2.7B', 'BitMamba-2-255M', 'BitMamba-2-1B'];
export const kParts = [
  'limits',
  'products',
  'dram',
  'lab',
  'lab_dram',
  'activations',
  'sampler',
  'model',
  'prompts',
  'page',
  'threads',
];
export const kBrowsers = ['chromium', 'firefox'];
export const kPeers = ['wllama', 'llama.cpp'];

export const kHelp = `usage: npm run bench -- [options]
       npm run bench -- --compare BEFORE.json AFTER.json
       npm run bench -- --against FOLDER [options]

Measures kernels and models natively and in headless browsers, prints one table and writes it as JSON.
GMAC/s: thousands of millions of weight times activation. Every speed stands beside the limit of the machine that the
same run measured in the same engine: dot products alone, or reading memory alone.

  --browsers LIST   of ${kBrowsers.join(', ')}; none: only native (default: both)
  --no-native       only browsers
  --parts LIST      of ${kParts.join(', ')} (default: all but dram, lab_dram, sampler, prompts and threads)
                      page: the shipped package: time to first byte, memory, speed; threads: speeds with two
  --models LIST     files, or sizes of random models: ${kPresets.join(', ')} (default: the shipped models, 3.5M and 20M),
                    or published ones, of random checkpoints that convert.py converts, in tokens instead of bytes:
                    ${kPublished.join(', ')}
  --full            all published ones, from the checkpoint to the page, and BitNet-2B-4T, which also chats:
                    --models ... --parts model,page,threads
  --big             a random model of 1.3B, too, and matrices of 64 MB; takes minutes
  --stream BYTES    also one text of so many bytes: is its end read as fast as its beginning?
  --peers           also ${kPeers.join(' and ')} on llama models with the same products; installs them into build/peers
  --peer-types LIST of TQ2_0, TQ1_0, Q4_0, Q8_0 (default: all)
  --milliseconds N  per measurement (default 200)
  --rounds N        all of it N times, everybody in turn; the best of each counts (default 1): for a machine whose
                    speed changes from minute to minute
  --quick           the least that tells something: 50 ms each, the smallest models
  --out FILE        where the JSON goes (default build/bench/bench.json)
  --compare A B     prints what changed between two such files
  --against FOLDER  also another checkout of this repository, such as a git worktree of an earlier commit, both in turn
                    in every round; writes its numbers beside FILE (…-before.json) and prints what changed
  --no-build        measures what is built; otherwise all that is measured is built first
  --help            this text`;

const kKnown = {
  browsers: { type: 'string' },
  'no-native': { type: 'boolean' },
  parts: { type: 'string' },
  models: { type: 'string' },
  big: { type: 'boolean' },
  full: { type: 'boolean' },
  stream: { type: 'string' },
  peers: { type: 'boolean' },
  'peer-types': { type: 'string' },
  milliseconds: { type: 'string' },
  rounds: { type: 'string' },
  quick: { type: 'boolean' },
  out: { type: 'string' },
  compare: { type: 'boolean' },
  against: { type: 'string' },
  'no-build': { type: 'boolean' },
  help: { type: 'boolean' },
};

/** What the words after `npm run bench --` ask for. Throws an Error with a sentence for the user. */
export function parse(words) {
  let parsed;
  try {
    parsed = parseArgs({ args: words, options: kKnown, allowPositionals: true });
  } catch (error) {
    throw new Error(`${error.message.split('. ')[0]}; --help lists the options`, { cause: error });
  }
  const { values, positionals } = parsed;
  if (values.help) return { help: true };
  if (values.compare) {
    if (positionals.length !== 2) {
      throw new Error(`--compare: expected two JSON files of earlier runs, found ${positionals.length}`);
    }
    return { compare: positionals };
  }
  if (positionals.length > 0) throw new Error(`expected options only, found "${positionals[0]}"`);
  const quick = values.quick ?? false;
  const big = values.big ?? false;
  const full = values.full ?? false;
  const parts = listOf('--parts', values.parts, kParts) ?? [
    ...(quick
      ? ['limits', 'model', 'page']
      : full
        ? ['model', 'page', 'threads']
        : kParts.filter((part) => !['dram', 'lab_dram', 'sampler', 'prompts', 'threads'].includes(part))),
    ...(big ? ['dram'] : []),
  ];
  const models =
    values.models?.split(',') ??
    (full ? [...kPublished, 'BitNet-2B-4T'] : ['shipped', ...(quick ? [] : ['3.5M', '20M']), ...(big ? ['1.3B'] : [])]);
  return {
    browsers: values.browsers === 'none' ? [] : (listOf('--browsers', values.browsers, kBrowsers) ?? kBrowsers),
    browsersNamed: values.browsers !== undefined,
    native: !values['no-native'],
    parts: [...new Set(parts)],
    models: [...new Set(models)],
    stream: values.stream === undefined ? 0 : numberOf('--stream', values.stream, 100, 1e12),
    peers: values.peers ?? false,
    peerTypes: listOf('--peer-types', values['peer-types'], ['TQ2_0', 'TQ1_0', 'Q4_0', 'Q8_0']) ?? [
      'TQ2_0',
      'TQ1_0',
      'Q4_0',
      'Q8_0',
    ],
    milliseconds: numberOf('--milliseconds', values.milliseconds ?? (quick ? '50' : '200'), 10, 60_000),
    rounds: numberOf('--rounds', values.rounds ?? '1', 1, 100),
    build: !values['no-build'],
    against: values.against === undefined ? null : resolve(values.against),
    out: values.out ?? 'build/bench/bench.json',
  };
}

function listOf(option, text, known) {
  if (text === undefined) return null;
  const items = text.split(',');
  const unknown = items.find((item) => !known.includes(item));
  if (unknown !== undefined) throw new Error(`${option}: expected some of ${known.join(', ')}, found "${unknown}"`);
  return items;
}

function numberOf(option, text, low, high) {
  const number = Number(text);
  if (/^\d+$/.test(text) && number >= low && number <= high) return number;
  throw new Error(`${option}: expected a whole number from ${low} to ${high}, found "${text}"`);
}
