// The public types as a caller meets them: compiled by `npm run typecheck`, never run.
// SPDX-License-Identifier: MIT

import { TernError, load, probe, type Capabilities, type Chunk, type GenerateResult, type Score } from 'ternlm';

export async function everyCall(): Promise<void> {
  await using model = await load('model.gguf', { onProgress: ({ received, total }) => [received, total] });
  const info: string = model.info.runtime.thread;
  const warnings: readonly string[] = model.info.warnings;

  const generation = model.stream('Once', { temperature: 0.7, seed: 1n, signal: AbortSignal.timeout(1000) });
  for await (const chunk of generation) void (chunk satisfies Chunk).text;
  const text: ReadableStream<string> = generation.text;
  const bytes: ReadableStream<Uint8Array> = generation.bytes;
  const result: GenerateResult = await generation.stop();
  const from: number = result.from;
  const ended: undefined = await generation.ended.then(() => undefined);
  const { value }: IteratorResult<Chunk, void> = await generation[Symbol.asyncIterator]().next();

  const stages: number = model.info.stages;
  const trace = { boundaries: stages > 0 };
  const boundaries: Uint8Array | null = (await model.generate('x', { trace })).boundaries;
  const ofPrompt: Uint8Array | null = await model.stream('x', { trace }).promptBoundaries;
  // @ts-expect-error nothing else is traced
  model.stream('x', { trace: { gates: true } });

  const { size, bos }: { readonly size: number; readonly bos: number } = model.info.vocabulary;
  const tokens: Uint32Array = (await model.generate(Uint32Array.of(size - 1), { maxTokens: 9, control: true })).tokens;
  void [bos, tokens];
  // @ts-expect-error tokens are a Uint32Array
  model.stream([1, 2]);

  const score: Score = await model.score(new Uint8Array(3), { control: false });
  for await (const { text, bits, top } of model.scoreStream('x', { top: 3 })) void [text, bits, top[0]?.probability];
  const session = model.session();
  const fed: Uint8Array | null = (await session.feed('x', { trace })).boundaries;
  await session.restore(await session.snapshot());
  await using fork = await session.fork();
  await fork.rewind(3, { signal: AbortSignal.timeout(1000) });
  await using restored = await model.restore(await fork.snapshot(), { checkpoints: 0 });
  const position: number = restored.position;
  const compressed: Uint8Array = await model.compress('x', { signal: AbortSignal.timeout(1000) });
  const response = new Response(new Blob([new Uint8Array(compressed)]).stream().pipeThrough(model.decompressStream()));
  void [await model.decompress(compressed), response];
  // @ts-expect-error compressed data is bytes
  await model.decompress('x');
  // @ts-expect-error positions are numbers
  await fork.rewind('3');
  void position;
  void [info, warnings, text, bytes, result, score, boundaries, ofPrompt, fed, from, ended, value];

  const { kernels, tables, runtime }: Capabilities = await probe({ runtime: 'worker' });
  const rates: (number | null)[] = [...kernels.map(({ gmacPerS }) => gmacPerS), tables.gmacPerS];
  void [rates, runtime.kernel];
  await probe({ signal: AbortSignal.timeout(1000) });
  // @ts-expect-error nothing can be chosen by hand
  await probe({ kernel: 'relaxed' });

  for (const source of [new URL('https://a.b'), new Request('a'), new Blob(), new ArrayBuffer(1), new Uint8Array(1)]) {
    await load(source);
  }

  const threaded = await load('model.gguf', { threads: 'auto' });
  await load('model.gguf', { threads: 4 });
  // @ts-expect-error a number, or auto
  await load('model.gguf', { threads: 'many' });
  const count: number = threaded.info.runtime.threads.count;
  void count;

  // @ts-expect-error a number is no model
  await load(42);
  model.stream('x', { utf8: 'raw' });
  // @ts-expect-error there is no such form
  model.stream('x', { utf8: 'loose' });
  // @ts-expect-error there is no such option
  model.stream('x', { top_k: 1 });
  // @ts-expect-error a prompt is text or bytes
  model.stream(5);
  // @ts-expect-error a score draws nothing
  await model.score('x', { maxBytes: 1 });
  // @ts-expect-error what is saved is bytes
  await session.restore('x');
  // @ts-expect-error there is no such option
  await load('model.gguf', { onprogress: () => undefined });
  // @ts-expect-error options are an object
  await load('model.gguf', null);
  const maybe = Math.random() > 2 ? AbortSignal.timeout(1) : undefined;
  await session.feed('x', { signal: maybe }); // a signal that may be missing need not be left out
  await load('model.gguf', { signal: maybe });
  model.stream('x', { signal: maybe });
  // @ts-expect-error options have types
  model.stream('x', { maxBytes: '10' });
  // @ts-expect-error results cannot be changed
  result.text = '';
}

export function everyCode(error: unknown): string {
  if (!(error instanceof TernError)) return '';
  switch (error.code) {
    case 'bad-option':
      return 'caller';
    // @ts-expect-error there is no such code
    case 'no-such-code':
      return '';
    default:
      return error.message;
  }
}
