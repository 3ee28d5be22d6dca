// The bench page: runs one job that the driver names, in a worker or with the shipped package, and leaves its lines.
import { packageJob } from './package.js';
import { wllamaJob } from './wllama.js';

const kEngineVariants = { relaxed: '/modules/bench-relaxed.js', simd: '/modules/bench-simd.js' };

// A function with the relaxed dot product; validating it asks the browser whether it knows the instruction.
const kRelaxed = [
  [0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0, 10, 19, 1, 17, 0],
  [65, 0, 253, 15, 65, 0, 253, 15, 65, 0, 253, 15, 253, 147, 2, 11],
].flat();

/** Runs tern_bench with `words`, after loading the model at `url` (or null); its output lines. */
function engineJob({ words, url }) {
  const variant = WebAssembly.validate(Uint8Array.from(kRelaxed)) ? 'relaxed' : 'simd';
  const worker = new Worker('worker.js', { type: 'module' });
  return new Promise((resolve, reject) => {
    worker.onmessage = ({ data }) => {
      worker.terminate();
      if (data.error) reject(new Error(data.error));
      else resolve(data.lines);
    };
    worker.onerror = (event) => reject(new Error(event.message));
    worker.postMessage({ script: kEngineVariants[variant], words, url });
  });
}

const kJobs = { engine: engineJob, package: packageJob, wllama: wllamaJob };

/** For the driver: starts a job; window.result is what came of it. */
window.start = (kind, job) => {
  window.result = null;
  kJobs[kind](job).then(
    (lines) => (window.result = { lines }),
    (error) => (window.result = { error: String(error?.stack ?? error) }),
  );
};
window.ready = true;
