// A small BitNet with random weights and a tokenizer of its own, made up, for tests.
// SPDX-License-Identifier: MIT

import { header, kF32, kI8, kTq2, vector, type Key, type Tensor } from './gguf.js';

/** Of LLaMA 3, with the numbers that they have here. The bytes come first, so that a space is token 220, as it is there. */
export const kControls = { '<|begin_of_text|>': 300, '<|end_of_text|>': 301, '<|eot_id|>': 302, '<|image|>': 303 };
const kPieces = 304;

/** A tokenizer.json: bytes, the first letters of the alphabet in pairs, and the control tokens. */
export function byteLevelTokenizer(): string {
  let hidden = 256;
  const shown = (byte: number): boolean => (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
  const visible = Array.from({ length: 256 }, (_, byte) => byte).filter(shown);
  const bytes = [
    ...visible.map((byte) => String.fromCharCode(byte)),
    ...Array.from({ length: 256 - visible.length }, () => String.fromCharCode(hidden++)),
  ];
  const letters = Array.from('abcdefghijk');
  const pairs = letters.flatMap((a) => letters.map((b) => [a, b] as const)).slice(0, 300 - bytes.length);
  const pieces = [...bytes, ...pairs.map(([a, b]) => a + b)];
  return JSON.stringify({
    added_tokens: Object.entries(kControls).map(([content, id]) => ({ id, content, special: true, normalized: false })),
    normalizer: null,
    pre_tokenizer: { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: true },
    decoder: { type: 'ByteLevel' },
    model: {
      type: 'BPE',
      vocab: Object.fromEntries(pieces.map((piece, token) => [piece, token])),
      merges: pairs.map(([a, b]) => `${a} ${b}`),
    },
  });
}

/** The turns of BitNet b1.58 2B-4T. */
export const kTurns: readonly Key[] = [
  ['tokenizer.ternlm.chat.system', 'System: {}<|eot_id|>'],
  ['tokenizer.ternlm.chat.user', 'User: {}<|eot_id|>'],
  ['tokenizer.ternlm.chat.assistant', 'Assistant: {}<|eot_id|>'],
  ['tokenizer.ternlm.chat.reply', 'Assistant: '],
];

const kWidth = 256;

/** The file; `chat`: the keys of its turns or its template. */
export function bitnet(context: number, chat: readonly Key[] = kTurns): Uint8Array<ArrayBuffer> {
  return made(ours(context, chat), [vector('token_embd.scale', kPieces), table(kI8)], 'attn_o');
}

/** Such a file as llama.cpp writes it, of one of its architectures. */
export function bitnetOfOthers(architecture: string): Uint8Array<ArrayBuffer> {
  const own = (name: string): string => `${architecture}.${name}`;
  const { added_tokens: added, model }: Json = JSON.parse(byteLevelTokenizer());
  const pieces = [...Object.keys(model.vocab), ...added.map(({ content }) => content)];
  const keys: Key[] = [
    ['general.architecture', architecture],
    [own('block_count'), 1],
    [own('embedding_length'), kWidth],
    [own('feed_forward_length'), kWidth],
    [own('attention.head_count'), 4],
    [own('attention.head_count_kv'), 2],
    [own('context_length'), 64],
    ['tokenizer.ggml.model', 'gpt2'],
    ['tokenizer.ggml.pre', 'gpt-2'],
    ['tokenizer.ggml.tokens', pieces],
    ['tokenizer.ggml.token_type', pieces.map((_, id) => (id < kPieces - added.length ? 1 : 3))],
    ['tokenizer.ggml.merges', model.merges],
    ['tokenizer.ggml.bos_token_id', kControls['<|begin_of_text|>']],
    ['tokenizer.ggml.eos_token_id', kControls['<|end_of_text|>']],
  ];
  return made(keys, [table(kF32)], 'attn_output');
}

interface Json {
  added_tokens: { content: string }[];
  model: { vocab: Record<string, number>; merges: string[] };
}

function table(type: number): Tensor {
  return { name: 'token_embd.weight', shape: [kWidth, kPieces], type };
}

function ours(context: number, chat: readonly Key[]): Key[] {
  return [
    ['general.architecture', 'bitnet'],
    ['bitnet.vocab_size', kPieces],
    ['bitnet.norm_rms_epsilon', 1e-5],
    ['bitnet.block_count', 1],
    ['bitnet.embedding_length', kWidth],
    ['bitnet.feed_forward_length', kWidth],
    ['bitnet.head_count', 4],
    ['bitnet.head_count_kv', 2],
    ['bitnet.head_length', 64],
    ['bitnet.context_length', context],
    ['bitnet.rope_frequencies', Array.from({ length: 32 }, (_, c) => Math.floor(2 ** 32 / (2 * Math.PI) / 1.6 ** c))],
    ['bitnet.activation', 'relu2'],
    ['tokenizer.ggml.model', 'gpt2'],
    ['tokenizer.ggml.bos_token_id', kControls['<|begin_of_text|>']],
    ['tokenizer.ggml.eos_token_id', kControls['<|end_of_text|>']],
    ['tokenizer.ggml.eot_token_id', kControls['<|eot_id|>']],
    ['tokenizer.huggingface.json', byteLevelTokenizer()],
    ...chat,
  ];
}

/** Its numbers are random, those of the embedding too. */
function made(keys: readonly Key[], embedding: readonly Tensor[], out: string): Uint8Array<ArrayBuffer> {
  const ternary = (name: string, rows: number): Tensor => ({
    name: `blk.0.${name}.weight`,
    shape: [kWidth, rows],
    type: kTq2,
  });
  const tensors = [
    ...embedding,
    vector('blk.0.attn_norm.weight', kWidth),
    ternary('attn_q', 256),
    ternary('attn_k', 128),
    ternary('attn_v', 128),
    ternary(out, kWidth),
    vector('blk.0.ffn_norm.weight', kWidth),
    ternary('ffn_gate', kWidth),
    ternary('ffn_up', kWidth),
    ternary('ffn_down', kWidth),
    vector('output_norm.weight', kWidth),
  ];
  const { bytes, dataBytes } = header(keys, tensors);
  const file = new Uint8Array(bytes.length + dataBytes);
  file.set(bytes);
  const view = new DataView(file.buffer);
  let [at, seed] = [bytes.length, 1];
  const random = (): number => (seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0) >>> 8;
  for (const { shape, type } of tensors) {
    const elements = shape.reduce((a, b) => a * b);
    const isScale = type === kF32 && shape[0] === kPieces;
    const isTable = type === kF32 && shape.length > 1;
    const number = (): number => (isTable ? (random() % 255) / 127 - 1 : isScale ? 1 / 64 : 1);
    if (type === kF32) for (let i = 0; i < elements; i++) view.setFloat32(at + 4 * i, number(), true);
    if (type === kI8) for (let i = 0; i < elements; i++) view.setInt8(at + i, (random() % 255) - 127);
    for (let block = 0; type === kTq2 && block < elements / 256; block++) {
      for (let i = 0; i < 64; i++)
        file[at + 66 * block + i] = [0, 0, 0, 0].reduce((byte) => 4 * byte + (random() % 3), 0);
      view.setUint16(at + 66 * block + 64, 0x2c00, true); // 1/16
    }
    const size = type === kF32 ? 4 * elements : type === kI8 ? elements : (elements / 256) * 66;
    at += Math.ceil(size / 32) * 32;
  }
  return file;
}
