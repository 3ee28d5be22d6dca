// Whether a lot of data comes back: compresses and decompresses through the built package in Node, compares the SHA-256, and
// says what it took.
//
//   npm run build && node scripts/bench/roundtrip.js --bytes 10000000 --model models/tinystories-tokens-4m5.gguf
//
// The data is --file, or stories over and over with every sixteenth piece of noise. The status is 1 if other data came back.
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { performance } from 'node:perf_hooks';
import { parseArgs } from 'node:util';

const root = new URL('../../', import.meta.url);
const { values } = parseArgs({
  options: {
    bytes: { type: 'string', default: '10000000' },
    file: { type: 'string', default: new URL('tests/data/stories.txt', root).pathname },
    model: { type: 'string', default: new URL('models/tinystories-3m5.gguf', root).pathname },
  },
});
const kBytes = Number(values.bytes);
const kPiece = 1 << 15;
const kNoiseEvery = 16; // pieces
const kReportMs = 60_000;

const { load } = await import(new URL('dist/index.js', root).href);
const text = readFileSync(values.file);

/** A stream of the data, with its digest and how much was taken of it. */
function newData() {
  const digest = createHash('sha256');
  let [taken, state] = [0, 1];
  const noise = () => (state = (Math.imul(state, 1664525) + 1013904223) >>> 0) >>> 24;
  const stream = new ReadableStream({
    pull(controller) {
      if (taken >= kBytes) return controller.close();
      const piece = new Uint8Array(Math.min(kPiece, kBytes - taken));
      const isNoise = (taken / kPiece) % kNoiseEvery === kNoiseEvery - 1;
      for (let i = 0; i < piece.length; i++) piece[i] = isNoise ? noise() : text[(taken + i) % text.length];
      digest.update(piece);
      taken += piece.length;
      controller.enqueue(piece);
    },
  });
  return { stream, digest, taken: () => taken };
}

/** All that comes out, told from time to time. */
async function* reported(what, stream) {
  const began = performance.now();
  let [bytes, told] = [0, began];
  const tell = () =>
    console.log(JSON.stringify({ what, bytes, seconds: Math.round((performance.now() - began) / 1000) }));
  for await (const piece of stream) {
    bytes += piece.length;
    yield piece;
    if (performance.now() - told < kReportMs) continue;
    told = performance.now();
    tell();
  }
  tell();
}

const model = await load(values.model);
console.log(JSON.stringify({ model: model.info.name, runtime: model.info.runtime, data: kBytes }));
const data = newData();
const compressed = [];
for await (const piece of reported('compressed', data.stream.pipeThrough(model.compressStream())))
  compressed.push(piece);
const found = createHash('sha256');
const back = new Blob(compressed).stream().pipeThrough(model.decompressStream());
for await (const piece of reported('decompressed', back)) found.update(piece);
await model.close();
const [sha256, of] = [found.digest('hex'), data.digest.digest('hex')];
console.log(JSON.stringify({ equal: sha256 === of, sha256 }));
if (sha256 !== of) process.exitCode = 1;
