// Model files of llama.cpp and microsoft/BitNet, turned into ours while they arrive: an entry of its own, ternlm/gguf.
// SPDX-License-Identifier: MIT
//
// The same numbers as scripts/convert.py writes (scripts/lm/file/public_gguf.py says what the files are), tensor by tensor
// in the order of the file, so that no more than one ternary matrix is in memory. load() takes such files by itself.

import { TernError, badOption } from './errors.js';
import { floatsOf, halfOf, toCodes, typeOf, kF32, kI2S, kTernary, kTq2 } from './gguf-numbers.js';
import { arriving, kAlignment, Input, readHeader, type Keys, type Tensor } from './gguf-header.js';
import { kNormBefore, kOrders, orderOf, type I2sOrder, type Witness } from './gguf-order.js';
import { tokenizerKeys } from './gguf-tokenizer.js';

export type { I2sOrder } from './gguf-order.js';

export type { Keys, Value } from './gguf-header.js';
export { readGguf, type GgufFile, type GgufTensor, type TernaryShares } from './gguf-inspect.js';

export interface OtherFileOptions {
  /**
   * Which weights share a byte of I2_S, which no file says: 'x86' (builds of microsoft/BitNet with ACT_PARALLEL, and the
   * published file), 'x86-rows' (without it) or 'arm'. A wrong one makes word salad. 'auto' (default): what the first
   * matrices say themselves, which is looked for in their zeros; 'x86' where they say nothing.
   */
  i2sOrder?: I2sOrder | 'auto';
}

const kArchitectures = ['bitnet-25', 'bitnet-b1.58', 'bitnet', 'llama'];
const kLookedAt = 32 << 20; // bytes of the file that tell the order: more than a block of 2B-4T

/** What is written in place of a tensor, or of two. */
interface Written {
  readonly name: string;
  readonly shape: readonly number[];
  readonly type: number;
  readonly bytes: number;
}

/** The file as one of ours. What is wrong with it fails the stream with a TernError: `unsupported` or `bad-file`. */
export function fromOtherGguf(
  source: ReadableStream<Uint8Array>,
  options: OtherFileOptions = {},
): ReadableStream<Uint8Array<ArrayBuffer>> {
  const reader = source.getReader();
  const pieces = translate(arriving(reader), options.i2sOrder);
  return new ReadableStream<Uint8Array<ArrayBuffer>>(
    {
      async pull(controller) {
        const { value, done } = await pieces.next();
        if (done) controller.close();
        else controller.enqueue(value);
      },
      cancel: (reason) => reader.cancel(reason),
    },
    { highWaterMark: 0 },
  );
}

/** The same for pieces of any size. */
export async function* translate(
  source: AsyncIterator<Uint8Array, void>,
  asked: OtherFileOptions['i2sOrder'] = 'auto',
): AsyncGenerator<Uint8Array<ArrayBuffer>, void, undefined> {
  if (asked !== 'auto' && !(asked in kOrders)) {
    throw badOption('i2sOrder', "'auto', 'x86', 'x86-rows' or 'arm'", asked);
  }
  const input = new Input(source);
  const { keys, tensors, dataStart } = await readHeader(input);
  const architecture = keys.get('general.architecture');
  if (typeof architecture !== 'string' || !kArchitectures.includes(architecture)) {
    throw unsupported(`general.architecture is ${String(architecture)}; expected ${kArchitectures.join(', ')}`);
  }
  const sizes = sizesOf(architecture, keys, tensors);
  let order: I2sOrder = asked === 'auto' ? 'x86' : asked;
  let isToAsk = asked === 'auto' && tensors.some(({ type }) => type === kI2S);
  const jobs = planOf(architecture, sizes, tensors, () => order);
  yield headerOf(
    [...sizes.keys, ...tokenizerKeys(keys, architecture)],
    jobs.flatMap((job) => job.written),
  );
  for (const [i, job] of jobs.entries()) {
    await input.skipTo(dataStart + job.tensor.at);
    if (isToAsk && job.tensor.name.startsWith('blk.')) {
      isToAsk = false;
      order = orderOf(await witnesses(input, tensors, dataStart));
    }
    let size = 0;
    for await (const piece of job.make(input)) {
      size += piece.length;
      yield piece;
    }
    const isLast = i === jobs.length - 1;
    if (!isLast && size % kAlignment !== 0) yield new Uint8Array(kAlignment - (size % kAlignment));
  }
}

/** Of what comes next in the file. */
async function witnesses(input: Input, tensors: readonly Tensor[], dataStart: number): Promise<Witness[]> {
  const end = Math.max(...tensors.map((tensor) => dataStart + tensor.at + bytesOf(tensor)));
  const bytes = await input.look(Math.min(end - input.at, kLookedAt));
  const found = (tensor: Tensor): Uint8Array | null => {
    const from = dataStart + tensor.at - input.at;
    const to = from + bytesOf(tensor);
    return from >= 0 && to <= bytes.length ? bytes.subarray(from, to) : null;
  };
  return tensors.flatMap((tensor): Witness[] => {
    const { name, type, rows, cols } = tensor;
    const [, block = '', part = ''] = /^(blk\.\d+\.)(.*)\.weight$/.exec(name) ?? [];
    const norm = tensors.find((each) => each.name === `${block}${kNormBefore[part] ?? ''}.weight`);
    if (type !== kI2S || norm?.cols !== cols || norm.rows !== 1) return [];
    const [packed, raw] = [found(tensor), found(norm)];
    return packed && raw ? [{ rows, cols, packed, norm: floatsOf(norm.type, raw, cols, norm.name) }] : [];
  });
}

// ---- what the file says, in our words ----

type Key = readonly [
  name: string,
  type: 'u32' | 'f32' | 'string' | 'u32[]' | 'bool',
  value: number | string | readonly number[],
];

interface Sizes {
  readonly heads: number;
  readonly kvHeads: number;
  readonly keys: readonly Key[];
}

function sizesOf(name: string, keys: Keys, tensors: readonly Tensor[]): Sizes {
  const number = (key: string, otherwise?: number): number => {
    const value = keys.get(`${name}.${key}`) ?? otherwise;
    if (typeof value === 'number' && value > 0) return value;
    throw new TernError('bad-file', `${name}.${key} is ${String(value)}; expected a number above 0`);
  };
  const scaling = keys.get(`${name}.rope.scaling.type`) ?? 'none';
  if ((scaling !== 'none' && scaling !== '') || tensors.some((each) => each.name === 'rope_freqs.weight')) {
    throw unsupported('the rotation is scaled; only the plain one is computed here');
  }
  const [heads, hidden] = [number('attention.head_count'), number('embedding_length')];
  const width = number('attention.key_length', Math.floor(hidden / heads));
  if (number('rope.dimension_count', width) !== width)
    throw unsupported(`${name}.rope.dimension_count is not the width ${width} of a head`);
  const embedding = tensors.find((each) => each.name === 'token_embd.weight');
  if (!embedding) throw new TernError('bad-file', 'expected a tensor token_embd.weight, found none');
  const kvHeads = number('attention.head_count_kv', heads);
  const base = number('rope.freq_base', 10000);
  const turns = Array.from({ length: Math.floor(width / 2) }, (_, pair) =>
    halfEven((2 ** 32 / (2 * Math.PI)) * base ** ((-2 * pair) / width)),
  );
  return {
    heads,
    kvHeads,
    keys: [
      ['general.architecture', 'string', 'bitnet'],
      ['general.name', 'string', String(keys.get('general.name') ?? name)],
      ['bitnet.block_count', 'u32', number('block_count')],
      ['bitnet.embedding_length', 'u32', hidden],
      ['bitnet.feed_forward_length', 'u32', number('feed_forward_length')],
      ['bitnet.head_count', 'u32', heads],
      ['bitnet.head_count_kv', 'u32', kvHeads],
      ['bitnet.head_length', 'u32', width],
      ['bitnet.context_length', 'u32', number('context_length', 2048)],
      ['bitnet.rope_frequencies', 'u32[]', turns],
      ['bitnet.activation', 'string', name === 'bitnet-25' || name === 'bitnet-b1.58' ? 'relu2' : 'silu'],
      ['bitnet.vocab_size', 'u32', embedding.rows],
      ['bitnet.norm_rms_epsilon', 'f32', number('attention.layer_norm_rms_epsilon', 1e-5)],
    ],
  };
}

/** As Python's round(). */
function halfEven(x: number): number {
  const below = Math.floor(x);
  const rest = x - below;
  return below + Number(rest > 0.5 || (rest === 0.5 && below % 2 === 1));
}

interface Job {
  /** At whose beginning it reads. */
  readonly tensor: Tensor;
  readonly written: readonly Written[];
  make(input: Input): AsyncIterable<Uint8Array<ArrayBuffer>>;
}

function planOf(name: string, { heads, kvHeads }: Sizes, tensors: readonly Tensor[], order: () => I2sOrder): Job[] {
  const rotated: Record<string, number> = name === 'llama' ? { attn_q: heads, attn_k: kvHeads } : {};
  return tensors.flatMap((tensor): Job[] => {
    const part = tensor.name.split('.').at(-2) ?? '';
    if (tensor.name.endsWith('.scale')) {
      throw unsupported(
        `${tensor.name}: a scale beside its matrix is not read while a file arrives: convert it with scripts/convert.py`,
      );
    }
    if (kTernary.includes(tensor.type)) return [ternaryJob(tensor, order, rotated[part] ?? null)];
    if (tensor.name === 'token_embd.weight' || tensor.name === 'output.weight') return [codesJob(tensor)];
    return [vectorJob(tensor)];
  });
}

function vectorJob(tensor: Tensor): Job {
  const { name, cols, rows, dimensions } = tensor;
  if (dimensions !== 1)
    throw unsupported(`${name} is of type ${tensor.type}; expected TQ1_0, TQ2_0 or I2_S: a model with ternary weights`);
  return {
    tensor,
    written: [{ name, shape: [cols], type: kF32, bytes: 4 * cols * rows }],
    async *make(input) {
      const numbers = floatsOf(tensor.type, await input.take(bytesOf(tensor)), cols, name);
      yield new Uint8Array(numbers.buffer);
    },
  };
}

/** Embedding and head: int8 rows, and behind them the scale of each. */
function codesJob(tensor: Tensor): Job {
  const { name, cols, rows } = tensor;
  const stem = name.replace('.weight', '');
  return {
    tensor,
    written: [
      { name, shape: [cols, rows], type: 24, bytes: cols * rows },
      { name: `${stem}.scale`, shape: [rows], type: kF32, bytes: 4 * rows },
    ],
    async *make(input) {
      const scales = new Float32Array(rows);
      const rowBytes = bytesOf(tensor) / rows;
      for (let row = 0; row < rows;) {
        const count = Math.min(rows - row, 256);
        const raw = await input.take(count * rowBytes);
        const codes = new Int8Array(count * cols);
        for (let i = 0; i < count; i++, row++) {
          const numbers = floatsOf(tensor.type, raw.subarray(i * rowBytes, (i + 1) * rowBytes), cols, name);
          scales[row] = toCodes(numbers, codes.subarray(i * cols, (i + 1) * cols), name);
        }
        yield new Uint8Array(codes.buffer);
      }
      const padding = (kAlignment - ((cols * rows) % kAlignment)) % kAlignment;
      if (padding > 0) yield new Uint8Array(padding);
      yield new Uint8Array(scales.buffer);
    },
  };
}

/** All blocks get the one scale of the matrix, which I2_S has at its end: so it is taken whole. */
function ternaryJob(tensor: Tensor, order: () => I2sOrder, heads: number | null): Job {
  const { name, cols, rows } = tensor;
  const type = tensor.type === kI2S ? kTq2 : tensor.type;
  const blocks = Math.ceil(cols / 256);
  const blockBytes = type === kTq2 ? 66 : 54;
  const rowBytes = blocks * blockBytes;
  return {
    tensor,
    written: [
      { name: name.replace('attn_output', 'attn_o'), shape: [256 * blocks, rows], type, bytes: rows * rowBytes },
    ],
    async *make(input) {
      const raw = await input.take(bytesOf(tensor));
      const out =
        tensor.type === kI2S ? fromI2S(tensor, raw, order(), rowBytes) : withOneScale(tensor, raw, blockBytes);
      yield heads === null ? out : unpermuted(out, rows, rowBytes, heads);
    },
  };
}

/** Of a head, channels that turn together lie beside each other there; ours are half a head apart. */
function unpermuted(
  from: Uint8Array<ArrayBuffer>,
  rows: number,
  rowBytes: number,
  heads: number,
): Uint8Array<ArrayBuffer> {
  const to = new Uint8Array(from.length);
  const width = rows / heads;
  for (let row = 0; row < rows; row++) {
    const channel = row % width;
    const source = row - channel + 2 * (channel % (width / 2)) + Math.floor(channel / (width / 2));
    to.set(from.subarray(source * rowBytes, (source + 1) * rowBytes), row * rowBytes);
  }
  return to;
}

/** A block of zeros has the scale 0 there. */
function withOneScale({ name }: Tensor, raw: Uint8Array, blockBytes: number): Uint8Array<ArrayBuffer> {
  const out = new Uint8Array(raw);
  const view = new DataView(out.buffer);
  let scale = 0;
  for (let at = blockBytes - 2; at < out.length; at += blockBytes) {
    const found = view.getUint16(at, true);
    if (found >= 0x7c00 && found !== 0x8000)
      throw new TernError('bad-file', `the scale of ${name} is not finite or below 0`);
    if (found % 0x8000 !== 0 && scale !== 0 && found !== scale) {
      throw unsupported(
        `${name} has more than one scale; expected one for the matrix, as in models trained with ternary weights`,
      );
    }
    if (found % 0x8000 !== 0) scale = found;
  }
  // What has the scale 0 is 0, whatever its codes are.
  const zeros = blockBytes === 66 ? new Uint8Array(64).fill(0x55) : kZeroTq1;
  for (let at = 0; at < out.length; at += blockBytes) {
    if (view.getUint16(at + blockBytes - 2, true) % 0x8000 === 0) out.set(zeros, at);
    view.setUint16(at + blockBytes - 2, scale, true);
  }
  return out;
}

/** Five digits 1, and at the end four and a 0, as models/FORMAT.md has it. */
const kZeroTq1 = Uint8Array.from({ length: 52 }, (_, byte) => Math.ceil(((byte < 48 ? 121 : 120) * 256) / 243));

/** The two-bit fields of a byte, turned around; of a field 3 the number 256 and more. */
const kTurned = Uint16Array.from({ length: 256 }, (_, byte) => {
  const fields = [0, 2, 4, 6].map((shift) => (byte >> shift) & 3);
  return fields.reduce((all, field) => 4 * all + field, 0) + (fields.includes(3) ? 256 : 0);
});

function fromI2S(
  { name, rows, cols }: Tensor,
  raw: Uint8Array,
  order: I2sOrder,
  rowBytes: number,
): Uint8Array<ArrayBuffer> {
  const together = kOrders[order].together(cols);
  if (!kOrders[order].fits(rows, cols)) {
    throw unsupported(
      `${name} of ${rows} x ${cols} does not divide into I2_S of the order ${order}: another build wrote it; see i2sOrder`,
    );
  }
  const elements = rows * cols;
  const scale = new DataView(raw.buffer, raw.byteOffset).getFloat32(elements / 4, true);
  const half = halfOf(scale, name);
  const out = new Uint8Array(rows * rowBytes).fill(0x55);
  const view = new DataView(out.buffer);
  let wrong = 0;
  if (order === 'x86' && cols % 128 === 0) {
    // Both have 128 weights in 32 bytes, with the fields of a byte the other way round.
    for (let row = 0, at = 0; row < rows; row++) {
      for (let part = 0; part < cols / 128; part++) {
        const to = row * rowBytes + 66 * (part >> 1) + 32 * (part & 1);
        for (let i = 0; i < 32; i++) {
          const turned = kTurned[raw[at++] ?? 0] ?? 0;
          wrong |= turned;
          out[to + i] = turned & 255;
        }
      }
    }
  } else {
    for (let byte = 0; byte < elements / 4; byte++) {
      const first = Math.floor(byte / together) * 4 * together + (byte % together);
      wrong |= kTurned[raw[byte] ?? 0] ?? 0;
      for (let field = 0; field < 4; field++) {
        const element = first + field * together;
        const [row, col] = [Math.floor(element / cols), element % cols];
        const to = row * rowBytes + 66 * (col >> 8) + ((col >> 2) & 32) + (col & 31);
        const shift = 2 * ((col >> 5) & 3);
        out[to] = ((out[to] ?? 0) & ~(3 << shift)) | ((((raw[byte] ?? 0) >> (6 - 2 * field)) & 3) << shift);
      }
    }
  }
  if (wrong >= 256) {
    throw new TernError(
      'bad-file',
      `${name} has the code 3, which I2_S never has: the file is damaged, or of another layout`,
    );
  }
  for (let at = 64; at < out.length; at += 66) view.setUint16(at, half, true);
  return out;
}

function bytesOf({ name, type, rows, cols }: Tensor): number {
  if (type === kI2S) return (rows * cols) / 4 + 32;
  const { block, bytes } = typeOf(type, name);
  if (cols % block !== 0)
    throw new TernError('bad-file', `${name} has ${cols} columns; expected a multiple of ${block}`);
  return rows * (cols / block) * bytes;
}

// ---- our header ----

const kTypes = { u32: 4, f32: 6, bool: 7, string: 8, 'u32[]': 9 };

function headerOf(keys: readonly Key[], tensors: readonly Written[]): Uint8Array<ArrayBuffer> {
  const encoder = new TextEncoder();
  const parts: Uint8Array[] = [];
  let size = 0;
  const add = (bytes: Uint8Array): void => {
    parts.push(bytes);
    size += bytes.length;
  };
  const u32 = (x: number): void => add(new Uint8Array(Uint32Array.of(x).buffer));
  const u64 = (x: number): void => add(new Uint8Array(BigUint64Array.of(BigInt(x)).buffer));
  const text = (x: string): void => {
    const bytes = encoder.encode(x);
    u64(bytes.length);
    add(bytes);
  };
  add(encoder.encode('GGUF'));
  u32(3);
  u64(tensors.length);
  u64(keys.length);
  for (const [name, type, value] of keys) {
    text(name);
    u32(kTypes[type]);
    if (typeof value === 'string') text(value);
    else if (type === 'f32') add(new Uint8Array(Float32Array.of(Number(value)).buffer));
    else if (type === 'bool') add(Uint8Array.of(Number(value)));
    else if (typeof value === 'number') u32(value);
    else {
      u32(kTypes.u32);
      u64(value.length);
      value.forEach(u32);
    }
  }
  let offset = 0;
  for (const { name, shape, type, bytes } of tensors) {
    text(name);
    u32(shape.length);
    shape.forEach(u64);
    u32(type);
    u64(offset);
    offset += Math.ceil(bytes / kAlignment) * kAlignment;
  }
  const whole = new Uint8Array(Math.ceil(size / kAlignment) * kAlignment);
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}

function unsupported(message: string): TernError {
  return new TernError('unsupported', message);
}
