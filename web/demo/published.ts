// One entry of models/manifest.json, as far as the page shows it.
// SPDX-License-Identifier: MIT

export interface PublishedModel {
  readonly file: string;
  readonly sha256: string;
  readonly bytes: number;
  readonly name: string;
  readonly architecture: string;
  readonly parameters: number;
  readonly license: string;
  readonly trained_on: string;
  readonly bytes_seen: number;
  /** Multiply-adds with each byte of text. */
  readonly products_per_byte: number;
  readonly bits_per_byte: number;
  readonly evaluated_on: string;
  readonly default: boolean;
}

/** Where the page finds it. It names the content, for whoever keeps files by their address. */
export function addressOf({ file, sha256 }: Pick<PublishedModel, 'file' | 'sha256'>): string {
  return `models/${file}?${sha256.slice(0, 8)}`;
}
