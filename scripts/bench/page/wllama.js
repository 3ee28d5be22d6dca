// Measures wllama (llama.cpp as WebAssembly) on a llama model: the speeds it reports for a prompt and a continuation.

// Random models say any byte, and wllama fails on an answer that is not UTF-8: only ASCII. Byte b is token 3 + b.
const kNever = Array.from({ length: 128 }, (_, i) => [3 + 128 + i, false]);

/** tokens: of the prompt and of the continuation, each. */
export async function wllamaJob({ url, name, type, tokens, threads }) {
  const { Wllama } = await import('/wllama/esm/index.js');
  const wllama = new Wllama(
    { default: '/wllama/esm/wasm/wllama.wasm' },
    { suppressNativeLog: true, logger: { debug() {}, log() {}, warn() {}, error() {} } },
  );
  const response = await fetch(url);
  await wllama.loadModel([await response.blob()], { n_ctx: 1024, n_batch: 512, n_threads: threads, n_gpu_layers: 0 });
  let best = { prompt: 0, decode: 0 };
  for (let round = 0; round < 2; round++) {
    const { timings } = await wllama.createCompletion({
      prompt: String.fromCharCode(97 + round) + 'abcdefgh'.repeat(Math.ceil(tokens / 8)),
      max_tokens: tokens,
      ignore_eos: true,
      logit_bias: kNever,
      temperature: 1,
      seed: round,
    });
    best = {
      prompt: Math.max(best.prompt, timings.prompt_per_second),
      decode: Math.max(best.decode, timings.predicted_per_second),
    };
  }
  const used = wllama.getNumThreads();
  await wllama.exit();
  return [
    { bench: 'peer', what: 'prefill', model: name, type, threads: used, tokens_per_s: best.prompt },
    { bench: 'peer', what: 'decode', model: name, type, threads: used, tokens_per_s: best.decode },
  ].map((line) => JSON.stringify(line));
}
