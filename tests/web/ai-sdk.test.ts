// The Vercel AI SDK runs with a loaded model: texts, streams, an abort, and objects that fit their schema.
// SPDX-License-Identifier: MIT

import type { LanguageModelV4 } from '@ai-sdk/provider';
import { Output, generateText, jsonSchema, streamText } from 'ai';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { languageModel, type CallSettings } from '../../web/src/entries/ai-sdk.js';
import { load, type Model } from '../../web/src/index.js';
import { bitnet } from './bitnet.js';
import { findEndlessPrompt } from './endless.js';
import { anyModel } from './golden.js';

let model: Model;
let endless: Uint8Array;

beforeAll(async () => {
  model = await load(anyModel());
  endless = await findEndlessPrompt(model);
});

afterAll(async () => model.close());

/** Of the package @ai-sdk/provider, as its types have it. */
const of = (...settings: Parameters<typeof languageModel>): LanguageModelV4 => languageModel(...settings);

describe('the AI SDK', () => {
  test('generates the text that the model writes', async () => {
    const answer = await generateText({
      model: of(model),
      prompt: 'Once upon',
      seed: 7,
      maxOutputTokens: 60,
      temperature: 0.8,
    });
    const alone = await model.generate('Once upon', { seed: 7, maxBytes: 60, temperature: 0.8 });
    expect(answer.text).toBe(alone.text);
    expect(answer.usage.outputTokens).toBe(alone.bytes.length);
    expect(answer.finishReason).toBe(alone.finish === 'max-bytes' ? 'length' : 'stop');
    expect(answer.finalStep.providerMetadata?.['ternlm']).toMatchObject({ seed: '7' });
    expect(answer.warnings ?? []).toEqual([]);
  });

  test('streams it, and stops at stop sequences', async () => {
    const alone = await model.generate('x', { seed: 3, maxBytes: 200 });
    const stop = alone.text.slice(30, 32);
    const { textStream, finishReason } = streamText({
      model: of(model),
      prompt: 'x',
      seed: 3,
      maxOutputTokens: 200,
      stopSequences: [stop],
    });
    let text = '';
    for await (const part of textStream) text += part;
    expect(text).toBe(alone.text.slice(0, alone.text.indexOf(stop)));
    expect(await finishReason).toBe('stop');
  });

  test('ends an endless stream by its signal', async () => {
    const controller = new AbortController();
    const forever = languageModel(model, {
      toPrompt: () => new TextDecoder('latin1').decode(endless),
      defaults: { greedy: true },
    });
    const { textStream } = streamText({
      model: forever,
      prompt: 'x',
      maxOutputTokens: 1_000_000_000,
      abortSignal: controller.signal,
    });
    let chunks = 0;
    for await (const part of textStream) {
      expect(part).not.toBe('');
      if (++chunks === 3) controller.abort();
    }
    expect(chunks).toBeGreaterThanOrEqual(3);
    await expect(
      generateText({
        model: forever,
        prompt: 'x',
        maxOutputTokens: 1_000_000_000,
        abortSignal: AbortSignal.timeout(50),
      }),
    ).rejects.toMatchObject({ name: /Abort|Timeout/ });
  });

  test('makes objects that fit their schema', async () => {
    const schema = jsonSchema<{ name: string; age: number }>({
      type: 'object',
      properties: { name: { type: 'string', maxLength: 20 }, age: { type: 'integer', minimum: 0, maximum: 99 } },
      required: ['name', 'age'],
      additionalProperties: false,
    });
    for (const seed of [1, 2, 3]) {
      const { output } = await generateText({
        model: of(model),
        prompt: 'A fox',
        output: Output.object({ schema }),
        seed,
        maxOutputTokens: 100,
      });
      expect(typeof output.name).toBe('string');
      expect(output.age >= 0 && output.age <= 99).toBe(true);
    }
    const { output } = await generateText({
      model: of(model),
      prompt: 'A fox',
      output: Output.choice({ options: ['red', 'blue'] }),
      seed: 1,
    });
    expect(['red', 'blue']).toContain(output);
    const shortest = await generateText({
      model: of(model),
      prompt: 'A fox',
      output: Output.choice({ options: ['red', 'tan'] }),
      seed: 2,
      maxOutputTokens: '{"result":"red"}'.length, // it is whole with the last byte that is allowed
    });
    expect(['red', 'tan']).toContain(shortest.output);
    const streamed = streamText({
      model: of(model),
      prompt: 'A fox',
      output: Output.object({ schema }),
      seed: 4,
      maxOutputTokens: 80,
    });
    let last: unknown;
    for await (const part of streamed.partialOutputStream) last = part;
    expect(last).toEqual(await streamed.output);
  });
});

describe('a call', () => {
  const prompt: CallSettings['prompt'] = [
    { role: 'system', content: 'You are a fox.' },
    { role: 'user', content: [{ type: 'text', text: 'Hello, ' }, { type: 'file' }, { type: 'text', text: 'fox!' }] },
  ];

  test('joins the messages, and tells what it leaves out', async () => {
    const { content, warnings } = await languageModel(model).doGenerate({
      prompt,
      seed: 1,
      maxOutputTokens: 20,
      presencePenalty: 1,
      frequencyPenalty: 1,
      tools: [{}],
    });
    expect(content[0]?.text).toBe(
      (await model.generate('You are a fox.\n\nHello, fox!', { seed: 1, maxBytes: 20 })).text,
    );
    expect(warnings.map((each) => each.type === 'unsupported' && each.feature)).toEqual([
      'presencePenalty',
      'frequencyPenalty',
      'tools',
      'parts of messages that are not text',
    ]);
  });

  test('takes defaults, then the options for ternlm, then the SDK’s own', async () => {
    const settings = { prompt, maxOutputTokens: 10, providerOptions: { ternlm: { constraint: { regex: 'a{3}' } } } };
    const { content, finishReason } = await languageModel(model, { defaults: { seed: 5, maxTokens: 99 } }).doGenerate(
      settings,
    );
    expect([content[0]?.text, finishReason.unified]).toEqual(['aaa', 'stop']);
  });

  test('fails with what is wrong', async () => {
    const call = (more: Partial<CallSettings>): Promise<unknown> =>
      languageModel(model).doGenerate({ prompt, ...more });
    await expect(call({ responseFormat: { type: 'json' } })).rejects.toMatchObject({ code: 'unsupported' });
    await expect(call({ responseFormat: { type: 'json', schema: { type: 'tree' } } })).rejects.toMatchObject({
      code: 'bad-option',
    });
    await expect(call({ temperature: -1 })).rejects.toMatchObject({ code: 'bad-option' });
  });
});

describe('a model that was made to chat', () => {
  const said = (text: string): { role: 'user'; content: string } => ({ role: 'user', content: text });
  const settings = { seed: 5, maxOutputTokens: 8, temperature: 0.5 };

  test('answers in the form that it was made for, and reads only what is new', async () => {
    await using one = await load(bitnet(200));
    await using other = await load(bitnet(200));
    expect([one.isMadeToChat, model.isMadeToChat]).toEqual([true, false]);
    const first = await generateText({ model: of(one), instructions: 'Be kind.', messages: [said('Hi')], ...settings });
    const options = { seed: 5, maxTokens: 8, temperature: 0.5 };
    const begin = [{ role: 'system', content: 'Be kind.' } as const, said('Hi')];
    const alone = await (await other.chat(begin, options)).result;
    expect(first.text).toBe(alone.text);
    const messages = [said('Hi'), { role: 'assistant', content: first.text } as const, said('And?')];
    const { textStream, usage } = streamText({ model: of(one), instructions: 'Be kind.', messages, ...settings });
    let text = '';
    for await (const part of textStream) text += part;
    const more = await other.chat([...begin, alone.message, said('And?')], options);
    expect(text).toBe((await more.result).text);
    const { inputTokens, inputTokenDetails } = await usage;
    expect(inputTokens).toBe(more.read + more.reused);
    expect(inputTokenDetails).toMatchObject({ noCacheTokens: more.read, cacheReadTokens: more.reused });
  });

  test('tells what its context could not hold', async () => {
    await using one = await load(bitnet(200));
    const long = Array.from({ length: 8 }, () => [
      said('Tell me more of it.'),
      { role: 'assistant', content: 'Yes, so it was.' },
    ]);
    const messages = [...long.flat(), said('Hi')] as Parameters<typeof generateText>[0]['messages'] & object;
    const { warnings } = await generateText({ model: of(one), messages, ...settings });
    expect(warnings).toMatchObject([
      { type: 'other', message: expect.stringMatching(/oldest \d+ messages were left out/) },
    ]);
    const options = { messages: [said('Hi')], maxOutputTokens: 3 };
    const refused = generateText({ model: of(one, { defaults: { maxBytes: 9 } }), ...options, maxRetries: 0 });
    await expect(refused).rejects.toThrow('maxBytes: expected maxTokens');
  });
});
