// The model card: what the publisher measured, what the file says, and what runs here.
// SPDX-License-Identifier: MIT

import type { ModelInfo } from 'ternlm';
import type { PublishedModel } from './published.js';

export type Fact = readonly [name: string, value: string];

export function factsOf(model: ModelInfo, published: PublishedModel | null): Fact[] {
  const { runtime } = model;
  const engine = runtime.variant === 'relaxed' ? 'relaxed SIMD' : `SIMD128 (${runtime.reason})`;
  const thread = runtime.thread === 'worker' ? 'a worker' : `this page (${runtime.threadReason})`;
  return [
    ['Name', model.name],
    ['About', model.metadata['general.description'] ?? ''],
    ['Parameters', `${compact(model.parameters)}, ${describeNumbers(model)}`],
    ['Architecture', `${model.architecture}, ${describeConfig(model)}`],
    ['File size', megabytes(model.fileBytes)],
    ['In memory', `${megabytes(model.packedBytes)}, and ${describeState(model)}`],
    ['Trained on', published && `${published.trained_on}, ${megabytes(published.bytes_seen)} seen`],
    ['Quality', published && `${published.bits_per_byte.toFixed(3)} bits per byte on ${published.evaluated_on}`],
    ['Licence', published?.license ?? model.metadata['general.license'] ?? ''],
    [
      'File',
      `${model.integrity === 'verified' ? 'SHA-256 verified' : `SHA-256 ${model.integrity}`}, ${model.fingerprint}`,
    ],
    ['Runs in', `${thread}, with ${engine}`],
    ['Ready after', `${Math.round(model.loadMs)} ms`],
  ].filter((fact): fact is [string, string] => Boolean(fact[1]));
}

function describeState({ stateBytes, stateBytesPerToken }: ModelInfo): string {
  if (stateBytesPerToken === 0) return `${kilobytes(stateBytes)} per conversation, however long`;
  return `${kilobytes(stateBytesPerToken)} per token of a conversation, ${megabytes(stateBytes)} at most`;
}

export function megabytes(bytes: number): string {
  return bytes < 100_000 ? kilobytes(bytes) : `${(bytes / 1e6).toFixed(bytes < 1e8 ? 1 : 0)} MB`;
}

function kilobytes(bytes: number): string {
  return `${(bytes / 1e3).toFixed(bytes < 1e5 ? 1 : 0)} kB`;
}

function compact(count: number): string {
  return new Intl.NumberFormat('en', { notation: 'compact', maximumFractionDigits: 1 }).format(count);
}

/** By the key general.file_type of models/FORMAT.md. */
function describeNumbers({ metadata }: ModelInfo): string {
  const bits = Number(metadata['general.file_type'] ?? 0) - 1000;
  return bits > 0
    ? `most of them a sign and ${bits - 1} bits (SF${bits})`
    : 'each −1, 0 or +1 but for norms and embedding';
}

function describeConfig({ config, architecture, stages }: ModelInfo): string {
  const value = (name: string): string => config[name] ?? config[`${architecture}.${name}`] ?? '?';
  if (stages > 0) {
    const blocks = ['encoder_block_count', 'block_count', 'decoder_block_count'].map(value).join(' + ');
    return `${blocks} blocks before, inside and after its chunks, of width ${value('embedding_length')}`;
  }
  return `${value('block_count')} blocks of width ${value('embedding_length')}`;
}
