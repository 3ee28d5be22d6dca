// ternlm/prompt-api behaves as programs for the browser's Prompt API expect, over a real model.
// SPDX-License-Identifier: MIT

import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { load, type LoadOptions, type Model } from '../../web/src/index.js';
import { promptApi, type LanguageModel, type LanguageModelFactory } from '../../web/src/entries/prompt-api.js';
import { toyModel } from '../../web/src/entries/testing.js';

let model: Model;
let factory: LanguageModelFactory;
const sampling = { maxTokens: 40, seed: 7 };

beforeAll(async () => {
  model = await load(await toyModel());
  factory = promptApi(model, { sampling });
});
afterAll(async () => model.close());

/** The name of what it fails with. */
async function failure(work: () => unknown): Promise<string> {
  try {
    await work();
    return 'nothing';
  } catch (error) {
    return error instanceof Error ? error.name : String(error);
  }
}

async function read(stream: ReadableStream<string>): Promise<string> {
  let whole = '';
  for await (const piece of stream) whole += piece;
  return whole;
}

describe('a conversation', () => {
  test('is the text of its prompts and answers, one after the other', async () => {
    const session = await factory.create({ initialPrompts: [{ role: 'system', content: 'A ' }] });
    const first = await session.prompt('byte');
    const second = await read(session.promptStreaming([{ role: 'user', content: [{ type: 'text', value: ' more' }] }]));
    const plain = model.session();
    await plain.feed('A byte');
    expect(first).toBe((await plain.stream(sampling).result).text);
    await plain.feed(' more');
    expect(second).toBe((await plain.stream(sampling).result).text);
    expect(session.inputUsage).toBe(plain.position);
    expect([session.contextUsage, session.inputQuota, session.contextWindow]).toEqual([
      plain.position,
      Infinity,
      Infinity,
    ]);
    await plain.close();
    session.destroy();
  });

  test('takes prompts in turn, whether they are awaited or read or not', async () => {
    const [one, other] = [await factory.create(), await factory.create()];
    const unread = one.promptStreaming('a');
    const texts = [one.append('b'), one.prompt('c')] as const;
    const expected = [await other.prompt('a'), await other.append('b'), await other.prompt('c')];
    expect(await texts[1]).toBe(expected[2]);
    expect(await read(unread)).toBe(expected[0]);
    one.destroy();
    other.destroy();
  });

  test('clones to one that goes its own way', async () => {
    const session = await factory.create();
    await session.append('Once');
    const clone = await session.clone();
    await session.append(' upon');
    const other = await factory.create({ initialPrompts: [{ role: 'user', content: 'Once' }] });
    expect(await clone.prompt(' a')).toBe(await other.prompt(' a'));
    for (const each of [session, clone, other]) each.destroy();
  });

  test('measures a prompt and stays as it is', async () => {
    const session = await factory.create();
    await session.append('ab');
    expect(await session.measureInputUsage('Grüße')).toBe(7);
    expect(await session.measureContextUsage([{ role: 'user', content: 'xyz' }])).toBe(3);
    expect(session.inputUsage).toBe(2);
    session.destroy();
  });

  test('an aborted prompt and a stream that was left leave no trace', async () => {
    const session = await promptApi(model, { sampling: { ...sampling, maxTokens: 1_000_000, greedy: true } }).create();
    await session.append('begins');
    const controller = new AbortController();
    const endless = session.promptStreaming('x', { signal: controller.signal }).getReader();
    await endless.read();
    controller.abort(new Error('enough'));
    await expect(drain(endless)).rejects.toThrow('enough');
    const left = session.promptStreaming('y').getReader();
    await left.read();
    await left.cancel();
    expect(await failure(() => session.prompt('z', { signal: AbortSignal.abort() }))).toBe('AbortError');
    await session.append('');
    expect(session.inputUsage).toBe(6);
    session.destroy();
  });

  test('ends with destroy(): what runs with AbortError, what comes later with InvalidStateError', async () => {
    const session = await promptApi(model, { sampling: { maxTokens: 1_000_000, greedy: true } }).create();
    const running = [session.prompt('x'), session.append('y'), session.measureInputUsage('z'), session.clone()];
    const stream = session.promptStreaming('w');
    session.destroy();
    session.destroy();
    for (const each of running) expect(await failure(() => each)).toBe('AbortError');
    expect(await failure(() => read(stream))).toBe('AbortError');
    for (const later of [
      () => session.prompt('x'),
      () => read(session.promptStreaming('x')),
      () => session.append('x'),
      () => session.clone(),
      () => session.measureInputUsage('x'),
    ]) {
      expect(await failure(later)).toBe('InvalidStateError');
    }
  });

  async function drain(reader: ReadableStreamDefaultReader<string>): Promise<void> {
    while (!(await reader.read()).done);
  }
});

describe('options', () => {
  test('of sampling are those of the session, in their limits', async () => {
    expect(await factory.params()).toEqual({
      defaultTopK: 256,
      maxTopK: 256,
      defaultTemperature: 1,
      maxTemperature: 100,
    });
    const session = await factory.create({ topK: 3.7, temperature: 0 });
    expect([session.topK, session.temperature]).toEqual([3, 0]);
    expect(await session.prompt('a')).toBe((await model.generate('a', { ...sampling, greedy: true })).text);
    const wild = await factory.create({ topK: 1e9, temperature: 1e9 });
    expect([wild.topK, wild.temperature]).toEqual([256, 100]);
    session.destroy();
    wild.destroy();
  });

  test('render makes a text of messages, for models that want one', async () => {
    const asked: [string, boolean][] = [];
    const own = promptApi(model, {
      sampling,
      render(messages, answers) {
        const text = messages.map(({ role, text, prefix }) => `<${role}>${text}${prefix ? '' : '\n'}`).join('');
        asked.push([text, answers]);
        return text;
      },
    });
    const session = await own.create({ initialPrompts: [{ role: 'system', content: 'S' }] });
    await session.append('A');
    await session.prompt([
      { role: 'user', content: 'Q' },
      { role: 'assistant', content: 'P', prefix: true },
    ]);
    expect(asked).toEqual([
      ['<system>S\n', false],
      ['<user>A\n', false],
      ['<user>Q\n<assistant>P', true],
    ]);
    session.destroy();
  });

  test('that cannot be had are refused by the names of the API', async () => {
    const create = async (options: object): Promise<string> => failure(() => factory.create(options));
    const image = [{ type: 'image' }];
    expect(await create({ expectedInputs: image })).toBe('NotSupportedError');
    expect(await create({ tools: [{}] })).toBe('NotSupportedError');
    expect(await create({ topK: 0 })).toBe('RangeError');
    expect(await create({ temperature: -1 })).toBe('RangeError');
    expect(await create({ temperature: 'hot' })).toBe('TypeError');
    expect(await create({ initialPrompts: 7 })).toBe('TypeError');
    expect(
      await create({
        initialPrompts: [
          { role: 'user', content: 'a' },
          { role: 'system', content: 'b' },
        ],
      }),
    ).toBe('TypeError');
    expect(await create({ signal: AbortSignal.abort(new RangeError()) })).toBe('RangeError');
    expect(await factory.availability({ expectedOutputs: image })).toBe('unavailable');

    const session: LanguageModel = await factory.create();
    const prompt = async (input: unknown, options = {}): Promise<string> =>
      failure(() => session.prompt(input as never, options));
    expect(await prompt(7)).toBe('TypeError');
    expect(await prompt([{ role: 'nobody', content: 'a' }])).toBe('TypeError');
    expect(await prompt([{ role: 'user', content: 7 }])).toBe('TypeError');
    expect(await prompt([{ role: 'user', content: [{ type: 'text', value: 7 }] }])).toBe('TypeError');
    expect(await prompt([{ role: 'system', content: 'a' }])).toBe('NotSupportedError');
    expect(await prompt([{ role: 'user', content: [{ type: 'image', value: null }] }])).toBe('NotSupportedError');
    expect(await prompt([{ role: 'user', content: 'a', prefix: true }])).toBe('SyntaxError');
    expect(await prompt('a', { responseConstraint: /(?=lookahead)/ })).toBe('NotSupportedError');
    expect(await prompt('a', { responseConstraint: { type: 'nothing' } })).toBe('NotSupportedError');
    expect(await prompt('a', { responseConstraint: 'json' })).toBe('TypeError');
    expect(session.inputUsage).toBe(0);
    session.destroy();
  });
});

describe('a constraint', () => {
  test('is met by the answer, in pieces or not, and the conversation goes on after it', async () => {
    const session = await factory.create();
    const schema = {
      type: 'object',
      properties: { age: { type: 'integer', minimum: 3, maximum: 9 } },
      required: ['age'],
    };
    const json = await session.prompt('How old? ', { responseConstraint: schema, omitResponseConstraintInput: true });
    expect(json).toMatch(/^{"age":[3-9]}$/);
    const answer = await read(session.promptStreaming(' Sure? ', { responseConstraint: /yes|no/ }));
    expect(answer).toMatch(/^(yes|no)$/);
    expect(session.inputUsage).toBe(`How old? ${json} Sure? ${answer}`.length);
    expect(await session.measureInputUsage('abc', { responseConstraint: schema })).toBe(3);
    session.destroy();
  });
});

describe('the model', () => {
  let opened: Model[];
  const loader = async (options: LoadOptions): Promise<Model> => {
    const model = await load(await toyModel(), options);
    opened.push(model);
    return model;
  };

  test('is loaded once, told of as it comes, and closed with the last conversation', async () => {
    opened = [];
    const own = promptApi(loader, { sampling });
    expect([await own.availability(), await own.params()]).toEqual(['downloadable', null]);
    const parts: number[] = [];
    const monitor = (target: EventTarget): void =>
      target.addEventListener('downloadprogress', (event) => parts.push(Number(Reflect.get(event, 'loaded'))));
    const creating = [own.create({ monitor }), own.create()];
    await Promise.resolve();
    expect(await own.availability()).toBe('downloading');
    const sessions = await Promise.all(creating);
    expect(await own.availability()).toBe('available');
    expect([parts[0], parts.at(-1)]).toEqual([0, 1]);
    expect(parts).toEqual([...parts].sort((a, b) => a - b));
    const clone = await sessions[0]?.clone();
    for (const each of sessions) each.destroy();
    expect(opened).toHaveLength(1);
    await opened[0]?.generate('open', { maxBytes: 1 });
    clone?.destroy();
    await expect(opened[0]?.generate('closed')).rejects.toMatchObject({ code: 'closed' });
    expect(await own.availability()).toBe('downloadable');
    (await own.create()).destroy();
    expect(opened).toHaveLength(2);
  });

  test('whose loading is given up by all who wait is let go of', async () => {
    const signals: (AbortSignal | undefined)[] = [];
    const own = promptApi(async ({ signal }) => {
      signals.push(signal);
      return new Promise((_, reject) => signal?.addEventListener('abort', () => reject(new Error('given up'))));
    });
    const controllers = [new AbortController(), new AbortController()];
    const creating = controllers.map(({ signal }) => failure(() => own.create({ signal })));
    await Promise.resolve();
    controllers[0]?.abort();
    expect(await creating[0]).toBe('AbortError');
    expect(signals.map((signal) => signal?.aborted)).toEqual([false]);
    controllers[1]?.abort();
    expect(await creating[1]).toBe('AbortError');
    expect(signals.map((signal) => signal?.aborted)).toEqual([true]);
    expect(await own.availability()).toBe('downloadable');
  });

  test('that cannot be loaded is told by the names of the API, and can be tried again', async () => {
    let address = 'data:text/html,<!doctype html>';
    const own = promptApi((options) => load(address, options));
    expect(await failure(() => own.create())).toBe('NetworkError');
    expect(await failure(() => own.create())).toBe('NetworkError');
    address = 'tests/conformance/state_space.gguf';
    (await own.create()).destroy();
    expect(() => promptApi(7 as never)).toThrow(/model must be/);
  });
});
