// A tokenizer.json as large as that of a published model, made up, for tests.
// SPDX-License-Identifier: MIT

const kLetters = Array.from('▁etaoinshrdlucmfwypvbgkqjxzTIAESNHR.,');

/** LLaMA's kind: three control tokens, the bytes, letters, and strings of two and three of them, each a merge of shorter ones. */
export function madeUp(pieces: number): string {
  const bytes = Array.from({ length: 256 }, (_, byte) => `<0x${byte.toString(16).toUpperCase().padStart(2, '0')}>`);
  const control = ['<unk>', '<s>', '</s>'];
  const two = kLetters.flatMap((a) => kLetters.map((b) => [a, b] as const));
  const three = two.flatMap(([a, b]) => kLetters.map((c) => [a + b, c] as const));
  const start = [...control, ...bytes, ...kLetters];
  const merges = [...two, ...three].slice(0, pieces - start.length);
  const all = [...start, ...merges.map(([a, b]) => a + b)];
  if (all.length !== pieces) throw new Error(`there are ${all.length} pieces at most`);
  return JSON.stringify({
    added_tokens: control.map((content, id) => ({ id, content, special: true, normalized: false })),
    normalizer: {
      type: 'Sequence',
      normalizers: [
        { type: 'Prepend', prepend: '▁' },
        { type: 'Replace', pattern: { String: ' ' }, content: '▁' },
      ],
    },
    pre_tokenizer: null,
    decoder: null,
    model: {
      type: 'BPE',
      byte_fallback: true,
      unk_token: '<unk>',
      vocab: Object.fromEntries(all.map((piece, token) => [piece, token])),
      merges: merges.map(([a, b]) => `${a} ${b}`),
    },
  });
}
