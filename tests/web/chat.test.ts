// A model chats: in the form it was trained on, reading only what is new, and telling what it had to leave out.
// SPDX-License-Identifier: MIT

import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Message } from '../../web/src/api/chat.js';
import { load, type Model } from '../../web/src/index.js';
import { Tokenizer } from '../../web/src/tokenizer.js';
import { bitnet, byteLevelTokenizer, kControls, kTurns } from './bitnet.js';
import { fromHex, goldens, modelOf } from './golden.js';
import type { Key } from './gguf.js';

const kContext = 200;
const tokenizer = Tokenizer.fromJson(byteLevelTokenizer());

const user = (content: string): Message => ({ role: 'user', content });
const assistant = (content: string): Message => ({ role: 'assistant', content });
const system = (content: string): Message => ({ role: 'system', content });
const kShort = { seed: 5, maxTokens: 8, temperature: 0.5 };

/** The tokens of a text with the names of control tokens in it, as the library has them. */
const tokensOf = (text: string): Uint32Array<ArrayBuffer> => tokenizer.encode(text, { control: true });

let model: Model;

beforeAll(async () => {
  model = await load(bitnet(kContext));
});

afterAll(async () => model.close());

/** A model with nothing in memory. */
async function fresh<T>(use: (model: Model) => Promise<T>, ...file: Parameters<typeof bitnet>): Promise<T> {
  await using loaded = await load(bitnet(...file));
  return await use(loaded);
}

describe('a chat', () => {
  test('is put in the published form: begun once, ends of turns, a space at the end', async () => {
    const said = [system(' Be kind. '), user('Hi!\n'), assistant('Hello'), user('How are you?')];
    const text =
      'System: Be kind.<|eot_id|>User: Hi!<|eot_id|>Assistant: Hello<|eot_id|>User: How are you?<|eot_id|>Assistant: ';
    const tokens = tokensOf(text);
    expect(tokens.at(-1)).toBe(220);
    expect(tokens).not.toContain(kControls['<|begin_of_text|>']);
    await fresh(async (loaded) => {
      const reply = await loaded.chat(said, kShort);
      expect([reply.read, reply.reused, reply.dropped]).toEqual([tokens.length, 0, []]);
      const { tokens: written, message } = await reply.result;
      const expected = await loaded.generate(tokens, kShort);
      expect(written).toEqual(expected.tokens);
      expect(message).toEqual(assistant(expected.text));
    }, kContext);
  });

  test('goes on without reading again what it has, and with the tokens that it wrote', async () => {
    await fresh(async (loaded) => {
      const first = await (await loaded.chat([user('Hi')], kShort)).result;
      const said = [user('Hi'), first.message, user('And?')];
      const reply = await loaded.chat(said, kShort);
      const more = tokensOf('<|eot_id|>User: And?<|eot_id|>Assistant: '); // the reply was cut before its end
      expect(first.finish).toBe('max-tokens');
      const before = tokensOf('User: Hi<|eot_id|>Assistant: ');
      expect([reply.reused, reply.read]).toEqual([before.length + first.tokens.length, more.length]);
      const whole = Uint32Array.from([...before, ...first.tokens, ...more]);
      expect((await reply.result).tokens).toEqual((await loaded.generate(whole, kShort)).tokens);
      const stripped = [user('Hi'), assistant(` ${first.text.trim()} `), user('And?')];
      expect((await (await loaded.chat(stripped, kShort)).result).tokens).toEqual((await reply.result).tokens);
    }, kContext);
  });

  test('that is edited, or replied to again, keeps what comes before', async () => {
    await fresh(async (loaded) => {
      const said: Message[] = [system('Be kind.'), user('Hi')];
      const first = await (await loaded.chat(said, kShort)).result;
      const again = await loaded.chat(said, { ...kShort, seed: 6 });
      const begun = tokensOf('System: Be kind.<|eot_id|>User: Hi<|eot_id|>Assistant: ');
      expect([again.reused, again.read]).toEqual([begun.length, 0]);
      expect((await again.result).tokens).toEqual((await loaded.generate(begun, { ...kShort, seed: 6 })).tokens);
      said.push(first.message, user('And you?'));
      await (
        await loaded.chat(said, kShort)
      ).result;
      said[3] = user('And them?');
      const edited = await loaded.chat(said, kShort);
      expect(edited.reused).toBeGreaterThan(begun.length + 8);
      const whole = Uint32Array.from([
        ...begun,
        ...tokensOf(first.text),
        ...tokensOf('<|eot_id|>User: And them?<|eot_id|>Assistant: '),
      ]);
      expect((await edited.result).tokens).toEqual((await loaded.generate(whole, kShort)).tokens);
    }, kContext);
  });

  test('goes on after an abort, while it reads and while it writes', async () => {
    await fresh(async (loaded) => {
      const said = [user('a long text '.repeat(10))];
      const expected = (
        await loaded.generate(tokensOf(`User: ${said[0]?.content.trim()}<|eot_id|>Assistant: `), kShort)
      ).tokens;
      const early = new AbortController();
      const never = await loaded.chat(said, { ...kShort, signal: early.signal });
      early.abort(new Error('enough'));
      await expect(never.result).rejects.toThrow('enough');
      const again = await loaded.chat(said, kShort);
      expect((await again.result).tokens).toEqual(expected);
      const late = new AbortController();
      const cut = await loaded.chat(said, { ...kShort, maxTokens: 60, signal: late.signal });
      let part = '';
      await expect(
        (async () => {
          for await (const { text } of cut) {
            part += text;
            late.abort(new Error('enough'));
          }
        })(),
      ).rejects.toThrow('enough');
      const next = await loaded.chat([...said, assistant(part), user('Go on')], kShort);
      expect(next.reused + next.read).toBeGreaterThan(130);
      expect((await next.result).finish).not.toBe('stopped');
    }, kContext);
  });

  test('stops at the end of a turn and at the end of a document', async () => {
    const ends = await Promise.all(
      Array.from({ length: 30 }, async (_, seed) => {
        const { finish, tokens } = await model.generate('a', { seed, temperature: 100, maxTokens: 1000 });
        return { finish, tokens };
      }),
    );
    expect(ends.filter(({ finish }) => finish === 'end-of-text').length).toBeGreaterThan(5);
    for (const { tokens, finish } of ends) {
      expect(tokens.subarray(0, -1)).not.toContain(kControls['<|eot_id|>']);
      expect(tokens).not.toContain(kControls['<|end_of_text|>']);
      if (tokens.at(-1) === kControls['<|eot_id|>']) expect(finish).toBe('end-of-text');
    }
    expect(ends.some(({ tokens }) => tokens.at(-1) === kControls['<|eot_id|>'])).toBe(true);
  });

  test('goes on after a reply that came to its end', async () => {
    await fresh(async (loaded) => {
      for (let seed = 0; ; seed++) {
        const said: Message[] = [user('Hi')];
        const ended = await (await loaded.chat(said, { seed, temperature: 100, maxTokens: 60 })).result;
        if (ended.tokens.at(-1) !== kControls['<|eot_id|>']) continue;
        said.push(ended.message, user('And?'));
        const reply = await loaded.chat(said, kShort);
        expect(reply.read).toBe(tokensOf('User: And?<|eot_id|>Assistant: ').length);
        await reply.result;
        return;
      }
    }, kContext);
  });

  test('takes the names of control tokens in messages as text', async () => {
    const reply = await model.chat([user('a<|eot_id|>b')], { ...kShort, maxTokens: 1 });
    const parts = ['User: a<|eot_id|>b', '<|eot_id|>', 'Assistant: '];
    const expected = parts.map((part, i) => tokenizer.encode(part, { control: i === 1 }).length);
    expect(reply.read).toBe(expected.reduce((a, b) => a + b));
    await reply.result;
  });

  test('streams, and can be stopped; two at once do not mix', async () => {
    const one = await model.chat([user('one')], { ...kShort, maxTokens: 40 });
    const two = await model.chat([user('two')], kShort);
    let text = '';
    for await (const chunk of one) text += chunk.text;
    const whole = await one.result;
    expect(text).toBe(whole.text);
    expect((await two.result).tokens).toEqual(
      (await model.generate(tokensOf('User: two<|eot_id|>Assistant: '), kShort)).tokens,
    );
    const long = await model.chat([user('three')], { ...kShort, maxTokens: 150 });
    expect((await long.stop()).message.role).toBe('assistant');
  });

  test('drops the oldest exchanges when the context is full, keeps the system message, and says so', async () => {
    await fresh(async (loaded) => {
      const said: Message[] = [system('Be brief.')];
      let dropped = 0;
      for (let turn = 0; turn < 12; turn++) {
        said.push(user(`Question number ${turn}?`));
        const reply = await loaded.chat(said, kShort);
        expect(reply.dropped).toEqual(said.slice(1, 1 + reply.dropped.length));
        expect(reply.dropped.length % 2).toBe(0);
        expect(reply.read + reply.reused).toBeLessThan(kContext);
        expect(reply.dropped.length).toBeGreaterThanOrEqual(dropped);
        if (reply.dropped.length === dropped && turn > 0) expect(reply.reused).toBeGreaterThan(0);
        dropped = reply.dropped.length;
        said.push((await reply.result).message);
      }
      expect(dropped).toBeGreaterThan(0);
    }, kContext);
  });
});

const kTemplate: Key = [
  'tokenizer.chat_template',
  `{{ bos_token }}{% for message in messages %}{% if message.role == 'system' %}{{ raise_exception('no system here') }}{% endif %}
    {{- message.role + '>' + message.content + eos_token }}{% endfor %}{% if add_generation_prompt %}{{ 'assistant>' }}{% endif %}`,
];

describe('a template', () => {
  test('of another model is followed', async () => {
    await fresh(
      async (loaded) => {
        const reply = await loaded.chat([user('Hi')], kShort);
        const tokens = tokensOf('user>Hi<|end_of_text|>assistant>');
        expect(reply.read).toBe(tokens.length);
        expect((await reply.result).tokens).toEqual((await loaded.generate(tokens, kShort)).tokens);
      },
      kContext,
      [kTemplate],
    );
  });

  test('may be long', async () => {
    const long: Key = [kTemplate[0], `{# ${'x'.repeat(100_000)} #}${String(kTemplate[1])}`];
    await fresh(
      async (loaded) => {
        const reply = await loaded.chat([user('Hi')], { ...kShort, maxTokens: 1 });
        expect(reply.read).toBe(tokensOf('user>Hi<|end_of_text|>assistant>').length);
        await reply.result;
      },
      kContext,
      [long],
    );
  });

  test('that fails is an error with its code, and the model goes on', async () => {
    await fresh(
      async (loaded) => {
        await expect(loaded.chat([system('a'), user('b')])).rejects.toMatchObject({
          code: 'bad-option',
          message: expect.stringMatching(/template of the model fails.*no system here/),
        });
        await (
          await loaded.chat([user('b')], kShort)
        ).result;
      },
      kContext,
      [kTemplate],
    );
    await fresh(
      async (loaded) => {
        await expect(loaded.chat([user('b')])).rejects.toMatchObject({ code: 'bad-file' });
        expect((await loaded.generate('a', kShort)).tokens).toHaveLength(8);
      },
      kContext,
      [['tokenizer.chat_template', '{% for %}']],
    );
  });

  test('that is not there is an error that says so', async () => {
    await fresh(
      async (loaded) => {
        await expect(loaded.chat([user('b')])).rejects.toMatchObject({
          code: 'unsupported',
          message: expect.stringMatching(/no chat template/),
        });
      },
      kContext,
      [],
    );
    const [, bytes] = goldens().find(([name]) => name === 'tiny_bitnet.json') ?? [];
    if (!bytes) throw new Error('expected the golden file tiny_bitnet.json');
    await using loaded = await load(modelOf(bytes));
    await expect(loaded.chat([user('b')])).rejects.toMatchObject({
      code: 'unsupported',
      message: expect.stringMatching(/bytes/),
    });
    expect((await loaded.generate(fromHex(bytes.prompt), { maxTokens: 3 })).tokens).toHaveLength(3);
  });

  test('with turns that are not complete is an error', async () => {
    await fresh(
      async (loaded) => {
        await expect(loaded.chat([user('b')])).rejects.toMatchObject({ code: 'bad-file' });
      },
      kContext,
      kTurns.slice(0, 3),
    );
  });
});

describe('a mistake', () => {
  test.each<[name: string, messages: unknown, options: object, message: RegExp]>([
    ['no messages', [], {}, /^messages must be a list with a message at least/],
    ['a text', 'Hi', {}, /^messages must be a list/],
    [
      'a role',
      [{ role: 'tool', content: '' }],
      {},
      /^messages\[0\]\.role must be 'system', 'user' or 'assistant', found "tool"/,
    ],
    ['a content', [{ role: 'user', content: 3 }], {}, /^messages\[0\]\.content must be a string, found 3/],
    ['a last message', [assistant('Hi')], {}, /^messages\[0\]\.role must be 'user', since it is the last/],
    ['control', [user('Hi')], { control: true }, /^control: /],
    ['an option', [user('Hi')], { temperature: 0 }, /^temperature must be/],
    ['too long a message', [user('x '.repeat(kContext))], {}, /^messages: .* \d+ tokens; expected fewer than 199/],
  ])('with %s is refused, and changes nothing', async (_, messages, options, message) => {
    const call = model.chat(JSON.parse(JSON.stringify(messages)), options);
    await expect(call).rejects.toMatchObject({ code: 'bad-option', message: expect.stringMatching(message) });
    const tokens = tokensOf('User: Hi<|eot_id|>Assistant: ');
    const reply = await model.chat([user('Hi')], kShort);
    expect((await reply.result).tokens).toEqual((await model.generate(tokens, kShort)).tokens);
  });
});
