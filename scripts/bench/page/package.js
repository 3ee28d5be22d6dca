// Measures what a page gets from the shipped package: time to load and to the first byte, speed of writing and reading, how
// soon an abort takes effect, memory.

const kPrompt = 'Once upon a time, there was a little girl named Lily. ';

const kAborts = 20;
const kPageTokens = 64; // a text's memory grows by so many

const sleep = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));

/**
 * Bytes per second of the best of at least three pieces, after one that warms up: as tern_bench has it, but for pieces that
 * a large model reads in seconds. Each begins a text: one of a transformer costs the more the longer it is, and has an end.
 */
async function readRate(model, size, seconds) {
  const session = model.session();
  const piece = inputOf(model, size);
  await session.feed(piece);
  let best = 0;
  for (let [rounds, end] = [0, performance.now() + 1000 * seconds]; rounds < 3 || performance.now() < end; rounds++) {
    await session.reset();
    const start = performance.now();
    await session.feed(piece);
    best = Math.max(best, size / (performance.now() - start));
  }
  await session.close();
  return 1000 * best;
}

/** So many bytes of text, or tokens where they are no bytes. */
function inputOf({ info }, size) {
  const tokens = info.vocabulary.size;
  return tokens === 256
    ? kPrompt.repeat(Math.ceil(size / kPrompt.length)).slice(0, size)
    : Uint32Array.from({ length: size }, (_, i) => (7919 * i) % tokens);
}

/** Milliseconds from a prompt of `size` tokens to the first one after it; the best of three. */
async function firstAfter(model, size) {
  let best = Infinity;
  for (let i = 0; i < 3; i++) {
    const start = performance.now();
    await model.generate(inputOf(model, size), { seed: i, maxTokens: 1 });
    best = Math.min(best, performance.now() - start);
  }
  return best;
}

/** Begins to watch how long this thread does nothing else. -> a function that ends it and answers the most, in milliseconds */
function watchStanding() {
  let [last, most] = [performance.now(), 0];
  const look = () => {
    const now = performance.now();
    [last, most] = [now, Math.max(most, now - last)];
  };
  const timer = window.setInterval(look, 1);
  return () => (window.clearInterval(timer), look(), most);
}

/** Two messages to a model that was made to chat, and what its replies cost; else nothing. */
async function chatOf(model) {
  if (model.info.metadata['tokenizer.ternlm.chat.user'] === undefined) return {};
  const messages = [{ role: 'user', content: 'What is your favourite food?' }];
  const first = await (await model.chat(messages, { seed: 1, maxTokens: 16 })).result;
  messages.push(first.message, { role: 'user', content: 'And why?' });
  const start = performance.now();
  const reply = await model.chat(messages, { seed: 2, maxTokens: 16 });
  let begun = 0;
  let tokens = 0;
  for await (const piece of reply) {
    if (begun === 0) begun = performance.now();
    else tokens += piece.tokens.length;
  }
  return {
    chat_read: reply.read,
    chat_reused: reply.reused,
    chat_first_ms: begun - start,
    chat_tokens_per_s: (1000 * tokens) / (performance.now() - begun),
  };
}

/** From the abort to its error, in milliseconds; null where the work had ended before: a text may end anywhere. */
async function abortTime(model, begin, after) {
  const session = model.session();
  const controller = new AbortController();
  const work = begin(session, controller.signal);
  await sleep(after);
  const start = performance.now();
  controller.abort();
  const ended = await work.then(
    () => true,
    () => false,
  );
  const time = performance.now() - start;
  await session.close();
  return ended ? null : time;
}

/** The median and the most of several aborts, each at another place of a slice; null of a model that is done too soon. */
async function abortTimes(model, begin) {
  const times = [];
  for (let i = 0; times.length < kAborts; i++) {
    if (i === 10 * kAborts) return null;
    const time = await abortTime(model, (session, signal) => begin(session, signal, i), 30 + ((7.3 * i) % 40));
    if (time !== null) times.push(time);
  }
  times.sort((a, b) => a - b);
  return { median: times[kAborts / 2], most: times[kAborts - 1] };
}

/** Rates are of tokens where those are no bytes. seconds: for writing and for reading each. threads: null where the package is to decide. */
export async function packageJob({ url, name, seconds, threads, memory }) {
  const { load } = await import('/package/index.js');
  const options = threads ? { threads } : {};
  const standing = watchStanding();
  const began = performance.now();
  const model = await load(url, options);
  const loaded = performance.now();
  const still = standing();

  let tokens = 0;
  let first = 0;
  const started = performance.now();
  let ended = started;
  for await (const piece of model.stream(kPrompt, { seed: 1, maxTokens: 1_000_000 })) {
    ended = performance.now();
    if (first === 0) first = ended;
    else tokens += piece.tokens.length;
    if (ended - first > 1000 * seconds) break;
  }
  const write = (1000 * tokens) / (ended - first);

  // Whole tiles of 16 bytes, as many as are written in a second.
  const read = await readRate(model, Math.max(32, Math.min(512, write & ~15)), seconds);
  const read512 = await readRate(model, 512, 0);
  const long = inputOf(model, 100_000);
  const aborts = {
    reading: await abortTimes(model, (session, signal) => session.feed(long, { signal })),
    writing: await abortTimes(
      model,
      (session, signal, seed) => session.stream({ signal, seed, maxTokens: 1e9 }).result,
    ),
  };
  const { info } = model;
  const chat = await chatOf(model);
  const line = {
    bench: 'page',
    model: name,
    level: info.runtime.kernel,
    threads: info.runtime.threads.count,
    load_ms: loaded - began,
    vocabulary: info.vocabulary.size,
    still_ms: still,
    first_byte_ms: first - started,
    first_of_100_ms: await firstAfter(model, 100),
    write_bytes_per_s: write,
    read_bytes_per_s: read,
    read_512_bytes_per_s: read512,
    cache_bytes: info.stateBytesPerToken * (512 + kPageTokens),
    aborts,
    ...chat,
    packed_bytes: info.packedBytes,
    file_bytes: info.fileBytes,
  };
  // The driver looks at the process while the model is still loaded.
  if (memory) await new Promise((resolve) => ((window.release = resolve), (window.loaded = line)));
  await model.close();
  return [JSON.stringify(line)];
}
