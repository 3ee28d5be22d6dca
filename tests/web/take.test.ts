// What the demo page writes after one beginning: the same bytes as a generation of its own, and nothing read twice.
import { readFileSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, test, vi, type MockInstance } from 'vitest';
import { load, type Model, type Session } from '../../web/src/index.js';
import { Take, type Ending } from '../../web/demo/take.js';

const file = (path: string): Uint8Array => readFileSync(new URL(`../../${path}`, import.meta.url));

const options = { temperature: 0.5, topK: 40, topP: 0.95, seed: 44 };

/** What it writes of `bytes` bytes, at least. */
async function told(take: Take, bytes: number): Promise<string> {
  await take.write(() => false, bytes);
  return take.pieces.map(({ text }) => text).join('');
}

function begin(model: Model, prompt: string, before: Take | null = null, seed = 44): Take {
  const none = (): void => undefined;
  const onProblem = (error: unknown): void => {
    throw error;
  };
  const onEnd = (how: Ending): void => void expect(['paused', 'finished']).toContain(how);
  return new Take(model, prompt, { ...options, seed }, { onText: none, onProgress: none, onEnd, onProblem }, before);
}

describe.each(['tinystories-3m5', 'tinystories-hnet-6m'])('takes of %s', (name) => {
  let model: Model;
  let sessions: { stream: MockInstance<Session['stream']>; rewind: MockInstance<Session['rewind']> }[] = [];
  beforeAll(async () => {
    model = await load(file(`models/${name}.gguf`));
    const open = model.session.bind(model);
    vi.spyOn(model, 'session').mockImplementation((given) => {
      const session = open(given);
      sessions.push({ stream: vi.spyOn(session, 'stream'), rewind: vi.spyOn(session, 'rewind') });
      return session;
    });
  });
  afterAll(async () => model.close());

  const alone = async (prompt: string, bytes: number, seed = 44): Promise<string> =>
    (await model.generate(prompt, { ...options, seed, maxBytes: bytes })).text;

  test('from an earlier place the state is restored, and only what is new is read', async () => {
    sessions = [];
    const prompt = 'Once upon a time there was a fox. He liked berries. '.repeat(20);
    const first = begin(model, prompt);
    const text = prompt + (await told(first, 300));
    expect(text.slice(prompt.length, prompt.length + 300)).toBe(await alone(prompt, 300));

    const place = prompt.length + 100;
    const changed = `${text.slice(0, place)} Then a dragon came.`;
    const second = begin(model, changed, first, 7);
    expect((await told(second, 200)).slice(0, 200)).toBe(await alone(changed, 200, 7));
    expect(sessions.length).toBe(1);
    const [session] = sessions;
    expect(session?.rewind).toHaveBeenLastCalledWith(place);
    const [, given] = session?.stream.mock.lastCall ?? [];
    expect(Buffer.from(given as Uint8Array).toString()).toBe(' Then a dragon came.');
    const masks = await second.promptMasks;
    if (model.info.stages > 0) {
      const whole = model.stream(changed, { ...options, maxBytes: 1, trace: { boundaries: true } });
      expect(masks).toEqual(await whole.promptBoundaries);
      await whole.result;
    } else {
      expect(masks).toBe(null);
    }

    // The first one goes on after all, as undo may have it.
    const whole = await told(first, 600);
    expect(whole.slice(0, 600)).toBe((await alone(prompt, 600)).slice(0, whole.length));
    for (const take of [first, second]) take.discard();
  });

  test('a prompt that was stopped in its middle is read on where it was', async () => {
    sessions = [];
    const prompt = 'Once upon a time there was a little bear. 🐻 '.repeat(60);
    const take = begin(model, prompt);
    const writing = take.write(() => false, 100);
    await new Promise((resolve) => setTimeout(resolve, 60));
    take.pause();
    await writing;
    expect(take.length).toBe(0);
    expect((await told(take, 100)).slice(0, 100)).toBe(await alone(prompt, 100));
    const [, given] = sessions[0]?.stream.mock.lastCall ?? [];
    expect((given as Uint8Array).length).toBeLessThan(Buffer.byteLength(prompt));
    take.discard();
  });

  test('a take that is left before it has written anything begins anew', async () => {
    const first = begin(model, 'The dog');
    const second = begin(model, 'The cat', first, 3);
    expect((await told(second, 80)).slice(0, 80)).toBe(await alone('The cat', 80, 3));
    expect((await told(first, 80)).slice(0, 80)).toBe(await alone('The dog', 80));
  });

  test('wrong options throw at once', () => {
    expect(() => begin(model, 'The dog', null, -1)).toThrow(/seed/);
  });
});
