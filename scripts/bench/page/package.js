// Measures what a page gets from the shipped package: time to load and to the first byte, speed of writing and reading, memory.

const kPrompt = 'Once upon a time, there was a little girl named Lily. ';

/** seconds: for writing and for reading each. threads: null where the package is to decide. */
export async function packageJob({ url, name, seconds, threads, memory }) {
  const { load } = await import('/package/index.js');
  const options = threads ? { threads } : {};
  const began = performance.now();
  const model = await load(url, options);
  const loaded = performance.now();

  let bytes = 0;
  let first = 0;
  const started = performance.now();
  let ended = started;
  for await (const piece of model.stream(kPrompt, { seed: 1, maxBytes: 1_000_000 })) {
    ended = performance.now();
    if (first === 0) first = ended;
    else bytes += piece.bytes.length;
    if (ended - first > 1000 * seconds) break;
  }
  const write = (1000 * bytes) / (ended - first);

  // In pieces that take about as long, so that a large model is not read for minutes.
  let read = 0;
  let readMs = 0;
  const piece = kPrompt.repeat(10).slice(0, Math.max(32, Math.min(512, Math.round(write))));
  for (let rounds = 0; rounds < 2 || readMs < 1000 * seconds; rounds++) {
    const at = performance.now();
    await model.score(piece);
    readMs += performance.now() - at;
    read += piece.length;
  }
  const { info } = model;
  const line = {
    bench: 'page',
    model: name,
    level: info.runtime.kernel,
    threads: info.runtime.threads.count,
    load_ms: loaded - began,
    first_byte_ms: first - started,
    write_bytes_per_s: write,
    read_bytes_per_s: (1000 * read) / readMs,
    packed_bytes: info.packedBytes,
    file_bytes: info.fileBytes,
  };
  // The driver looks at the process while the model is still loaded.
  if (memory) await new Promise((resolve) => ((window.release = resolve), (window.loaded = line)));
  await model.close();
  return [JSON.stringify(line)];
}
