// From the lines that the engines print to rows of the table: a name, a value, a unit, and the share of the limit.

/** A matrix or model larger than this is counted as read from memory in every step. */
export const kCacheBytes = 16 << 20;
const kFarBytes = 96 << 20; // up to here, caches of 32 MB hold a part that counts: 64 MB have a limit of their own

/**
 * One measurement.
 * @typedef {object} Row
 * @property {string} key what was measured where; the same in every run
 * @property {string} engine native, chromium, firefox, or another program
 * @property {string} what
 * @property {number} value
 * @property {string} unit
 * @property {boolean} higher whether more is better
 * @property {number} [spread] of several rounds: how far the worst lies from the best, as a share of the best
 * @property {number} [share] of the limit that the same engine showed in the same run, 0 to 1
 * @property {string} [limit] which limit; without a share: its loop was slower than this, so it is not known
 * @property {object} of the same as `key`, for programs: what was measured, of which model, with how many threads
 */

const kWeightsPerByte = 4; // packed

/** The limits among the lines of one engine, the best of all rounds, for share(). */
export function limitsOf(lines) {
  const limits = { dot: {}, read: {} };
  for (const line of lines) {
    const [kind, name, rate] =
      line.bench === 'limit_dot' ? ['dot', line.level, line.gmac_per_s] : ['read', line.memory, line.gb_per_s];
    if (line.bench === `limit_${kind}`) limits[kind][name] = Math.max(rate, limits[kind][name] ?? 0);
  }
  return limits;
}

/** Of a rate in GMAC/s with weights of so many bytes in memory: {} where no limit was measured. */
function shareOf(limits, level, gmac, bytes, tokens) {
  const one = limits.dot[level] ?? (level.startsWith('relaxed') ? limits.dot.relaxed : undefined);
  // Many tokens take tables; the definition never does, and earlier benches had no limit for them.
  const [dot, name] =
    tokens > 1 && level !== 'scalar' && limits.dot.table ? [limits.dot.table, 'adding'] : [one, 'dot'];
  if (!dot) return {};
  const memory = bytes > kFarBytes ? limits.read.dram : (limits.read['64 MB'] ?? limits.read.dram);
  const read = memory * kWeightsPerByte * tokens;
  const [rate, limit] = bytes > kCacheBytes && read < dot ? [read, 'DRAM'] : [dot, name];
  return gmac <= rate ? { share: gmac / rate, limit } : { limit };
}

/**
 * The rows of one engine's lines. What was measured in several rounds is one row: the best, or the last of shares.
 * @param {string} engine
 * @param {Record<string, any>[]} lines
 * @returns {Row[]}
 */
export function toRows(engine, lines) {
  const limits = limitsOf(lines);
  const rows = lines.flatMap((line) => {
    const { bench, model, level, type, prompt_bytes, tokens } = line;
    const of = { bench: line.what ?? bench, model, level, type, prompt_bytes, tokens, threads: line.threads ?? 1 };
    const measured = describe(line, limits).filter(({ value }) => value !== undefined); // by an older checkout: not all
    return measured.map(({ what, ...rest }) => ({
      key: `${engine} | ${what}`,
      engine,
      what,
      higher: true,
      ...rest,
      of,
    }));
  });
  const byKey = new Map();
  for (const row of rows) byKey.set(row.key, [...(byKey.get(row.key) ?? []), row]);
  return [...byKey.values()].map((same) => {
    const values = same.map(({ value }) => value);
    const [least, most] = [Math.min(...values), Math.max(...values)];
    const best =
      same[0].unit === '%' ? same.at(-1) : same.find(({ value, higher }) => value === (higher ? most : least));
    return same.length > 1 && best.value !== 0 ? { ...best, spread: (most - least) / Math.abs(best.value) } : best;
  });
}

function describe(line, limits) {
  const gmac = { unit: 'GMAC/s', value: line.gmac_per_s };
  const threads = line.threads > 1 ? `, ${line.threads} threads` : '';
  switch (line.bench) {
    case 'limit_dot':
      return [{ what: `limit: dot products, ${line.level}`, ...gmac }];
    case 'limit_read':
      return [{ what: `limit: reading ${line.memory}`, unit: 'GB/s', value: line.gb_per_s }];
    case 'ternary_matvec':
    case 'ternary_matmul': {
      const tokens = line.tokens > 1 ? ` x ${line.tokens} tokens` : '';
      const share = shareOf(
        limits,
        line.level,
        line.gmac_per_s,
        (line.rows * line.cols) / kWeightsPerByte,
        line.tokens,
      );
      return [{ what: `${line.rows}x${line.cols}${tokens}, ${line.level}`, ...gmac, ...share }];
    }
    case 'lab_matvec': {
      const copies = line.copies > 1 ? ` x ${line.copies} copies, from memory` : '';
      return [{ what: `lab: ${line.kernel} ${line.rows}x${line.cols}${copies}`, ...gmac }];
    }
    case 'quantize_activations':
      return [{ what: 'quantise activations', unit: 'M/s', value: line.million_values_per_s }];
    case 'sampler':
      return [
        {
          what: `draw of ${line.vocabulary}, ${line.options}: beside the product`,
          unit: '%',
          value: 100 * line.share,
          higher: false,
        },
      ];
    case 'decode':
    case 'prefill':
    case 'prompt': {
      const of = line.bench === 'prompt' ? `prefill of ${line.prompt_bytes}` : line.bench;
      const share = shareOf(limits, line.level, line.gmac_per_s, line.packed_bytes, line.bench === 'decode' ? 1 : 32);
      const what = `${of}, ${line.model}, ${line.level}${threads}`;
      return [{ what, unit: line.vocabulary > 256 ? 'tokens/s' : 'bytes/s', value: line.bytes_per_s, ...share }];
    }
    case 'breakdown':
      return ['products', 'quantize', 'rescale', 'other'].map((part) => ({
        what: `${line.of}, ${line.model}: ${part}`,
        unit: '%',
        value: 100 * line[part],
        higher: part === 'products',
      }));
    case 'memory':
      return [
        {
          what: `memory over the packed weights, ${line.model}${threads}`,
          unit: '%',
          value: 100 * (line.peak_bytes / line.packed_bytes - 1),
          higher: false,
        },
        { what: `memory, ${line.model}${threads}`, unit: 'MB', value: line.peak_bytes / 1e6, higher: false },
      ];
    case 'process':
      return [
        { what: `process with page, ${line.model}${threads}`, unit: 'MB', value: line.peak_bytes / 1e6, higher: false },
        {
          what: `process with page over weights and cache, ${line.model}${threads}`,
          unit: '%',
          value: 100 * (line.peak_bytes / (line.packed_bytes + (line.cache_bytes ?? 0)) - 1),
          higher: false,
        },
      ];
    case 'convert':
      return [
        { what: `conversion, ${line.model}`, unit: 's', value: line.seconds, higher: false },
        { what: `conversion, ${line.model}: processor`, unit: 's', value: line.processor_seconds, higher: false },
        { what: `conversion, ${line.model}: memory`, unit: 'MB', value: line.peak_bytes / 1e6, higher: false },
      ];
    case 'page': {
      const rate = line.vocabulary > 256 ? 'tokens/s' : 'bytes/s';
      return [
        { what: `load, ${line.model}${threads}`, unit: 'ms', value: line.load_ms, higher: false },
        {
          what: `first byte after load, ${line.model}${threads}`,
          unit: 'ms',
          value: line.first_byte_ms,
          higher: false,
        },
        {
          what: `first of a prompt of 100, ${line.model}${threads}`,
          unit: 'ms',
          value: line.first_of_100_ms,
          higher: false,
        },
        {
          what: `longest the page stood still while loading, ${line.model}${threads}`,
          unit: 'ms',
          value: line.still_ms,
          higher: false,
        },
        { what: `package writes, ${line.model}${threads}`, unit: rate, value: line.write_bytes_per_s },
        { what: `package reads, ${line.model}${threads}`, unit: rate, value: line.read_bytes_per_s },
        { what: `package reads 512, ${line.model}${threads}`, unit: rate, value: line.read_512_bytes_per_s },
        { what: `chat writes, ${line.model}${threads}`, unit: rate, value: line.chat_tokens_per_s },
        {
          what: `first of the second reply, ${line.chat_read} tokens read, ${line.model}${threads}`,
          unit: 'ms',
          value: line.chat_first_ms,
          higher: false,
        },
        ...Object.entries(line.aborts ?? {}).flatMap(([work, times]) =>
          Object.entries(times ?? {}).map(([which, value]) => ({
            what: `abort while ${work}, ${line.model}${threads}: ${which}`,
            unit: 'ms',
            value,
            higher: false,
          })),
        ),
      ];
    }
    case 'stream':
      return [
        {
          what: `${line.bytes / 1e6} MB as one text, ${line.model}: last hundredth beside the first`,
          unit: '%',
          value: 100 * (line.last / line.first),
        },
        {
          what: '... median of the last ten hundredths beside that of the first ten',
          unit: '%',
          value: 100 * (line.last_tenth_median / line.first_tenth_median),
        },
        { what: '... median of the hundredths', unit: 'bytes/s', value: line.median },
        { what: `... memory more at its end`, unit: 'bytes', value: line.memory_growth_bytes, higher: false },
      ];
    case 'peer': {
      const what = `${line.what}, ${line.model}, ${line.type}${threads}`;
      return [{ what, unit: 'tokens/s', value: line.tokens_per_s }];
    }
    default:
      throw new Error(`the bench does not know a measurement "${line.bench}"`);
  }
}

/** Those of `text` that are JSON, one to a line; anything else is somebody's message. */
export function parseLines(text) {
  return text
    .split('\n')
    .filter((line) => line.startsWith('{'))
    .map((line) => JSON.parse(line));
}
