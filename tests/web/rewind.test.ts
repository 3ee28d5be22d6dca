// A session can be copied, carried elsewhere and taken back: always to what a session has that was only ever there.
// SPDX-License-Identifier: MIT

import { afterAll, afterEach, beforeAll, describe, expect, test, vi } from 'vitest';
import { History, kStep } from '../../web/src/host/history.js';
import { load, type Model, type Session } from '../../web/src/index.js';
import { anyModel, goldens, modelOf, toHex } from './golden.js';

let model: Model;

beforeAll(async () => {
  model = await load(anyModel());
});

afterAll(async () => model.close());
afterEach(() => vi.restoreAllMocks());

const kText = new TextEncoder().encode('Once upon a time, there was a 🦊. '.repeat(150));

async function stateOf(text: Uint8Array): Promise<string> {
  await using session = model.session({ checkpoints: 0 });
  await session.feed(text);
  return toHex(await session.snapshot());
}

async function expectHolds(session: Session, text: Uint8Array): Promise<void> {
  expect(session.position).toBe(text.length);
  expect(toHex(await session.snapshot())).toBe(await stateOf(text));
}

/** How many tokens sessions append to their histories from now on: so many were read. */
function countRead(): () => number {
  const append = vi.spyOn(History.prototype, 'append');
  return () => append.mock.calls.reduce((sum, [, tokens]) => sum + tokens.length, 0);
}

describe('rewind', () => {
  test('goes to any place of what was fed, scored and written, again and again', async () => {
    await using session = model.session();
    await session.feed(kText.subarray(0, 700));
    await session.score(kText.subarray(700, 1400));
    const { bytes } = await session.stream({ seed: 3, maxBytes: 500, temperature: 2 }).result;
    const text = Uint8Array.from([...kText.subarray(0, 1400), ...bytes]);
    for (const to of [text.length, text.length - 1, 1401, 1400, 1024, 1023, 701, 700, 257, 256, 255, 1, 0]) {
      await session.rewind(to);
      await expectHolds(session, text.subarray(0, to));
    }
    await session.feed(kText);
    await session.rewind(3000);
    await session.feed(kText.subarray(3000, 3600));
    await session.rewind(3500);
    await expectHolds(session, kText.subarray(0, 3500));
  });

  test('reads at most as many tokens again as it takes back, or one step, with as many states as the text doubles', async () => {
    const checkpoints = 14 * (await model.session().snapshot()).length; // 2 log2(20,000 / 256) is 12.6
    const text = Uint8Array.from({ length: 20_000 }, (_, i) => kText[i % 100] ?? 0);
    for (const to of [19_999, 19_900, 19_000, 16_000, 10_000, 5000, 300, 100]) {
      await using session = model.session({ checkpoints });
      await session.feed(text);
      const read = countRead();
      await session.rewind(to);
      expect(read()).toBeLessThanOrEqual(Math.max(kStep, text.length - to));
      vi.restoreAllMocks();
    }
  });

  test('without room for states reads from the beginning, with little room from as near as there is one', async () => {
    const size = (await model.session().snapshot()).length;
    for (const [checkpoints, most] of [
      [0, 4000],
      [3 * size, 4000 - kStep],
    ] as const) {
      await using session = model.session({ checkpoints });
      await session.feed(kText.subarray(0, 4100));
      const read = countRead();
      await session.rewind(4000);
      expect(read()).toBe(checkpoints === 0 ? most : 4000 - 3840);
      vi.restoreAllMocks();
      await expectHolds(session, kText.subarray(0, 4000));
    }
  });

  test('cuts a text off where the state is by tokens: nothing is read again, no state is kept', async () => {
    const golden = goldens().find(([name]) => name === 'tiny_bitnet.json')?.[1];
    expect(golden).toBeDefined();
    if (!golden) return;
    await using transformer = await load(modelOf(golden));
    await using session = transformer.session();
    await session.feed(kText.subarray(0, 900));
    for (const to of [899, 600, 64, 63, 1, 0]) {
      const read = countRead();
      await session.rewind(to);
      expect(read()).toBe(0);
      vi.restoreAllMocks();
      expect(session.position).toBe(to);
      await using straight = transformer.session({ checkpoints: 0 });
      await straight.feed(kText.subarray(0, to));
      expect(toHex(await session.snapshot())).toBe(toHex(await straight.snapshot()));
      await session.feed(kText.subarray(to, 900));
    }
  });

  test('writes again what it wrote, from there', async () => {
    await using session = model.session();
    await session.feed('Once upon');
    const options = { seed: 5, maxBytes: 60 };
    const first = await session.stream(options).result;
    await session.rewind(9);
    expect(toHex((await session.stream(options).result).bytes)).toBe(toHex(first.bytes));
  });

  test('that is aborted leaves a part, and the position says how much', async () => {
    await using session = model.session({ checkpoints: 0 });
    const long = new Uint8Array(60_000).fill(97);
    await session.feed(long);
    const controller = new AbortController();
    const running = session.rewind(59_999, { signal: controller.signal });
    setTimeout(() => controller.abort(), 5);
    await expect(running).rejects.toMatchObject({ name: 'AbortError' });
    expect(session.position).toBeLessThan(long.length - 1);
    await expectHolds(session, long.subarray(0, session.position));
    await session.rewind(0);
    await expectHolds(session, new Uint8Array(0));
  });

  test.each([-1, 1.5, 11, NaN, '1'])('to %s of ten is refused, and changes nothing', async (to) => {
    await using session = model.session();
    await session.feed(kText.subarray(0, 10));
    await expect(session.rewind(JSON.parse(JSON.stringify(to)) ?? NaN)).rejects.toMatchObject({ code: 'bad-option' });
    await expectHolds(session, kText.subarray(0, 10));
  });

  test.each(goldens().filter(([name]) => name.startsWith('tiny_')))(
    'of %s comes to the same state',
    async (_, golden) => {
      await using tiny = await load(modelOf(golden));
      const { size, bos } = tiny.info.vocabulary;
      const tokens = Uint32Array.from({ length: 60 }, (_, i) => (i * 7 + (i * 7 === bos ? 1 : 0)) % size);
      await using session = tiny.session();
      await using other = tiny.session();
      await session.feed(tokens);
      await session.rewind(41);
      await other.feed(tokens.subarray(0, 41));
      expect(toHex(await session.snapshot())).toBe(toHex(await other.snapshot()));
    },
  );
});

describe('fork', () => {
  test('goes on alone, and back as far as the one that it was made of', async () => {
    await using session = model.session();
    await session.feed(kText.subarray(0, 1000));
    await using fork = await session.fork();
    expect(fork.position).toBe(1000);
    await session.feed('x');
    await fork.feed(kText.subarray(1000, 1100));
    await expectHolds(fork, kText.subarray(0, 1100));
    await fork.rewind(321);
    await expectHolds(fork, kText.subarray(0, 321));
    await session.rewind(1000);
    await expectHolds(session, kText.subarray(0, 1000));
  });

  test('comes in the order of the calls, also behind a generation', async () => {
    await using session = model.session();
    const [, streamed, forked, fed] = [
      session.feed('Once'),
      session.stream({ seed: 1, maxBytes: 30 }),
      session.fork(),
      session.feed('!'),
    ];
    const { bytes } = await streamed.result;
    await using fork = await forked;
    await fed;
    await expectHolds(fork, Uint8Array.from([...kText.subarray(0, 4), ...bytes]));
  });

  test('of a closed session fails with `closed`', async () => {
    const session = model.session();
    await session.close();
    await expect(session.fork()).rejects.toMatchObject({ code: 'closed' });
  });
});

describe('a snapshot', () => {
  test('goes on in another engine, in the middle of a character, too', async () => {
    const at = kText.indexOf(0xf0) + 2;
    await using session = model.session();
    await session.feed(kText.subarray(0, at));
    const snapshot = await session.snapshot();
    await using other = await load(anyModel(), { runtime: 'main' });
    await using restored = await other.restore(snapshot);
    expect(restored.position).toBe(at);
    const options = { seed: 8, maxBytes: 40 };
    const { bytes, text } = await restored.stream(options).result;
    const here = await session.stream(options).result;
    expect([toHex(bytes), text]).toEqual([toHex(here.bytes), here.text]);
    await restored.rewind(at);
    expect(toHex(await restored.snapshot())).toBe(toHex(snapshot));
    await expect(restored.rewind(at - 1)).rejects.toMatchObject({
      code: 'bad-option',
      message: `rewind: expected a position from ${at}, where the restored session began, to ${at}, found ${at - 1}`,
    });
  });

  test('that is damaged, or of another model, opens no session', async () => {
    await using session = model.session();
    const snapshot = await session.snapshot();
    const damaged = Uint8Array.from(snapshot, (byte, i) => (i === snapshot.length - 30 ? byte ^ 1 : byte));
    await expect(model.restore(damaged)).rejects.toMatchObject({ code: 'bad-state' });
    const [, golden] = goldens().find(([name]) => name.startsWith('tiny_hnet')) ?? [];
    if (!golden) throw new Error('expected a second model');
    await using other = await load(modelOf(golden));
    await expect(other.restore(snapshot)).rejects.toMatchObject({
      code: 'bad-state',
      message: expect.stringMatching(/fingerprint of the loaded model/),
    });
  });
});

test('a thousand sessions at once are each its own', async () => {
  const sessions = Array.from({ length: 1000 }, () => model.session());
  await Promise.all(sessions.map((session, i) => session.feed(`${i} and`)));
  for (const i of [0, 7, 500, 999]) {
    const text = new TextEncoder().encode(`${i} and`);
    expect(toHex(await (sessions[i] ?? model.session()).snapshot())).toBe(await stateOf(text));
  }
  await Promise.all(sessions.map((session) => session.close()));
});
