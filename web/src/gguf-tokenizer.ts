// The tokenizer in a file of llama.cpp, as a tokenizer.json and the keys beside it.
// SPDX-License-Identifier: MIT

import { TernError } from './errors.js';
import type { Keys, Value } from './gguf-header.js';

type Key = readonly [name: string, type: 'u32' | 'string' | 'bool', value: number | string];

/** Types of pieces in llama.cpp. */
const kUnknown = 2;
const kControl = 3;
const kAdded = 4;

const kGpt2 = String.raw`'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`;
const kLlama3 = String.raw`(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`;
/** By tokenizer.ggml.pre. */
const kSplits: Record<string, string> = {
  'gpt-2': kGpt2,
  'llama-bpe': kLlama3,
  llama3: kLlama3,
  'llama-v3': kLlama3,
};

/** Of BitNet b1.58 2B-4T; the template in its GGUF file is another one. */
const kTurns = ['System: {}<|eot_id|>', 'User: {}<|eot_id|>', 'Assistant: {}<|eot_id|>', 'Assistant: '];

export function tokenizerKeys(keys: Keys, architecture: string): Key[] {
  const tokens = texts(keys.get('tokenizer.ggml.tokens'));
  const types = list(keys.get('tokenizer.ggml.token_type')).map(Number);
  const model = keys.get('tokenizer.ggml.model');
  if (tokens.length === 0 || (model !== 'gpt2' && model !== 'llama')) {
    throw new TernError(
      'unsupported',
      `tokenizer.ggml.model is ${String(model)} with ${tokens.length} pieces; expected gpt2 or llama`,
    );
  }
  const json = model === 'gpt2' ? ofBytes(keys, tokens) : ofCharacters(keys, tokens, types);
  const added = tokens.flatMap((content, id) => {
    const type = types[id];
    const alone = { single_word: false, lstrip: false, rstrip: false, normalized: false };
    const isAdded = type === kControl || type === kUnknown || type === kAdded;
    return isAdded ? [{ id, content, special: type !== kAdded, ...alone }] : [];
  });
  const end = id(keys, 'eos', tokens.length) ?? 0;
  const turn = id(keys, 'eot', tokens.length) ?? tokens.indexOf('<|eot_id|>');
  const isBitNet = architecture === 'bitnet-25' && tokens.includes('<|eot_id|>');
  const template = keys.get('tokenizer.chat_template');
  return [
    ['tokenizer.ggml.model', 'string', model],
    ['tokenizer.ggml.bos_token_id', 'u32', id(keys, 'bos', tokens.length) ?? end],
    ['tokenizer.ggml.eos_token_id', 'u32', end],
    ...(turn >= 0 ? ([['tokenizer.ggml.eot_token_id', 'u32', turn]] as const) : []),
    ...(isBitNet
      ? (['system', 'user', 'assistant', 'reply'] as const).map((name, i): Key => [
          `tokenizer.ternlm.chat.${name}`,
          'string',
          kTurns[i] ?? '',
        ])
      : typeof template === 'string'
        ? ([['tokenizer.chat_template', 'string', template]] as const)
        : []),
    ['tokenizer.huggingface.json', 'string', JSON.stringify({ added_tokens: added, ...json })],
  ];
}

function id(keys: Keys, name: string, pieces: number): number | null {
  const value = keys.get(`tokenizer.ggml.${name}_token_id`);
  return typeof value === 'number' && value < pieces ? value : null;
}

function ofBytes(keys: Keys, tokens: readonly string[]): object {
  // The published file of 2B-4T does not say how it splits: as LLaMA 3, whose pieces it has.
  const pre = keys.get('tokenizer.ggml.pre') ?? (tokens.length > 128000 ? 'llama-bpe' : 'gpt-2');
  const split = typeof pre === 'string' ? kSplits[pre] : undefined;
  if (split === undefined) {
    throw new TernError(
      'unsupported',
      `tokenizer.ggml.pre is ${String(pre)}; expected ${Object.keys(kSplits).join(', ')}: convert the file with scripts/convert.py and its tokenizer.json`,
    );
  }
  const regex = { type: 'Split', pattern: { Regex: split }, behavior: 'Isolated', invert: false };
  const bytes = { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: false };
  return {
    normalizer: null,
    pre_tokenizer: { type: 'Sequence', pretokenizers: [regex, bytes] },
    decoder: { ...bytes, use_regex: true },
    model: {
      type: 'BPE',
      vocab: numbered(tokens),
      merges: texts(keys.get('tokenizer.ggml.merges')),
      ignore_merges: split === kLlama3,
    },
  };
}

/** SentencePiece: what two pieces make is a merge, the better its score the earlier. */
function ofCharacters(keys: Keys, tokens: readonly string[], types: readonly number[]): object {
  const scores = list(keys.get('tokenizer.ggml.scores')).map(Number);
  const ids = new Map(tokens.map((piece, token) => [piece, token]));
  const merges: { pair: string[]; score: number; order: number }[] = [];
  for (const [token, piece] of tokens.entries()) {
    const characters = Array.from(piece);
    if (characters.length < 2 || (types[token] ?? 1) !== 1) continue;
    for (let cut = 1; cut < characters.length; cut++) {
      const pair = [characters.slice(0, cut).join(''), characters.slice(cut).join('')];
      if (pair.every((part) => ids.has(part))) merges.push({ pair, score: scores[token] ?? 0, order: merges.length });
    }
  }
  merges.sort((a, b) => b.score - a.score || a.order - b.order);
  const space = { type: 'Replace', pattern: { String: ' ' }, content: '▁' };
  const prefix = keys.get('tokenizer.ggml.add_space_prefix') !== false;
  return {
    normalizer: { type: 'Sequence', normalizers: prefix ? [{ type: 'Prepend', prepend: '▁' }, space] : [space] },
    pre_tokenizer: null,
    decoder: null,
    model: {
      type: 'BPE',
      byte_fallback: true,
      unk_token: tokens[types.indexOf(kUnknown)] ?? null,
      vocab: numbered(tokens),
      merges: merges.map(({ pair }) => pair),
    },
  };
}

function numbered(tokens: readonly string[]): Record<string, number> {
  return Object.fromEntries(tokens.map((piece, token) => [piece, token]));
}

function list(value: Value | undefined): readonly Value[] {
  return typeof value === 'object' ? value : [];
}

function texts(value: Value | undefined): string[] {
  return list(value).map(String);
}
