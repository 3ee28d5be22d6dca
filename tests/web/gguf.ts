// Writes the part of a model file before its data, as models/FORMAT.md has it, for tests that need files of their own.
// SPDX-License-Identifier: MIT

const enum Type {
  u32 = 4,
  f32 = 6,
  string = 8,
  array = 9,
}
export const kF32 = 0;
export const kI8 = 24;
export const kTq2 = 35;
const kAlignment = 32;
const kItemBytes: Record<number, number> = { [kF32]: 4, [kI8]: 1, [kTq2]: 66 / 256 };

export type Key = readonly [name: string, value: number | string | readonly number[] | readonly string[]];

export interface Tensor {
  readonly name: string;
  readonly shape: readonly number[];
  readonly type: number;
}

/** The keys of every model whose tokens are bytes. */
export function byteKeys(architecture: string): Key[] {
  return [
    ['general.architecture', architecture],
    [`${architecture}.vocab_size`, 256],
    [`${architecture}.norm_rms_epsilon`, 1e-6],
    ['tokenizer.ggml.model', 'byte'],
    ['tokenizer.ggml.bos_token_id', 254],
    ['tokenizer.ggml.eos_token_id', 255],
  ];
}

/** The same where they are pieces; `json`: a tokenizer.json like LLaMA's. */
export function pieceKeys(architecture: string, pieces: number, json: string): Key[] {
  return [
    ['general.architecture', architecture],
    [`${architecture}.vocab_size`, pieces],
    [`${architecture}.norm_rms_epsilon`, 1e-6],
    ['tokenizer.ggml.model', 'llama'],
    ['tokenizer.ggml.bos_token_id', 1],
    ['tokenizer.ggml.eos_token_id', 2],
    ['tokenizer.huggingface.json', json],
  ];
}

export function vector(name: string, ...shape: number[]): Tensor {
  return { name, shape, type: kF32 };
}

/** A ternary matrix and the norm before it; `cols` is a multiple of 256. */
export function linear(name: string, cols: number, rows: number): Tensor[] {
  return [vector(`${name}.in_norm.weight`, cols), { name: `${name}.weight`, shape: [cols, rows], type: kTq2 }];
}

/** Everything before the data, and how many bytes the data has. */
export interface Beginning {
  readonly bytes: Uint8Array;
  readonly dataBytes: number;
}

/** A number that is no whole one becomes a float32. */
export function header(keys: readonly Key[], tensors: readonly Tensor[]): Beginning {
  const bytes: number[] = [...Buffer.from('GGUF')];
  const u32 = (x: number): void => void bytes.push(x & 255, (x >>> 8) & 255, (x >>> 16) & 255, x >>> 24);
  const u64 = (x: number): void => (u32(x >>> 0), u32(Math.floor(x / 2 ** 32)));
  const text = (x: string): void => {
    const encoded = Buffer.from(x);
    u64(encoded.length);
    for (const byte of encoded) bytes.push(byte);
  };
  u32(3);
  u64(tensors.length);
  u64(keys.length);
  for (const [key, value] of keys) {
    text(key);
    if (typeof value === 'string') {
      u32(Type.string);
      text(value);
    } else if (typeof value === 'object') {
      u32(Type.array);
      u32(typeof value[0] === 'string' ? Type.string : Type.u32);
      u64(value.length);
      value.forEach((item) => (typeof item === 'string' ? text(item) : u32(item)));
    } else if (Number.isInteger(value)) {
      u32(Type.u32);
      u32(value);
    } else {
      u32(Type.f32);
      bytes.push(...new Uint8Array(Float32Array.of(value).buffer));
    }
  }
  let dataBytes = 0;
  for (const { name, shape, type } of tensors) {
    text(name);
    u32(shape.length);
    shape.forEach(u64);
    u32(type);
    u64(dataBytes);
    const elements = shape.reduce((a, b) => a * b);
    dataBytes += Math.ceil((elements * (kItemBytes[type] ?? 0)) / kAlignment) * kAlignment;
  }
  while (bytes.length % kAlignment !== 0) bytes.push(0);
  return { bytes: Uint8Array.from(bytes), dataBytes };
}

/** The whole file, whose numbers are all 0 but those at the front of the data. */
export function whole({ bytes, dataBytes }: Beginning, front = new Float32Array(0)): Uint8Array<ArrayBuffer> {
  const file = new Uint8Array(bytes.length + dataBytes);
  file.set(bytes);
  file.set(new Uint8Array(front.buffer), bytes.length);
  return file;
}

export interface Sizes {
  hidden: number;
  intermediate: number;
  layers: number;
}

/** A flat model without convolution; `keys` and `vocabulary` of one whose tokens are not bytes. */
export function hgrnbit(
  { hidden, intermediate, layers }: Sizes,
  vocabulary = 256,
  keys: Key[] = byteKeys('hgrnbit'),
): Beginning {
  const blocks = Array.from({ length: layers }, (_, n) => [
    vector(`blk.${n}.attn_norm.weight`, hidden),
    ...['attn_i', 'attn_f', 'attn_g', 'attn_o'].flatMap((name) => linear(`blk.${n}.${name}`, hidden, hidden)),
    vector(`blk.${n}.gate_norm.weight`, hidden),
    vector(`blk.${n}.ffn_norm.weight`, hidden),
    ...linear(`blk.${n}.ffn_gate_up`, hidden, 2 * intermediate),
    ...linear(`blk.${n}.ffn_down`, intermediate, hidden),
  ]);
  return header(
    [
      ...keys,
      ['hgrnbit.block_count', layers],
      ['hgrnbit.embedding_length', hidden],
      ['hgrnbit.recurrent_length', hidden],
      ['hgrnbit.feed_forward_length', intermediate],
      ['hgrnbit.conv_kernel', 0],
      ['hgrnbit.gate_norm', 'gate'],
      ['hgrnbit.sigmoid', 'table'],
    ],
    [
      vector('token_embd.weight', hidden, vocabulary),
      ...blocks.flat(),
      vector('output_norm.weight', hidden),
      ...linear('output', hidden, vocabulary),
    ],
  );
}
