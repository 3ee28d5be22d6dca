// Packs what ternlm/conformance needs into one script: the modules of models/SPEC.md's operations, its vectors and models,
// and the golden bytes of the published models.  Usage: node vectors.js FOLDER-OF-MODULES FOLDER-TO-WRITE-TO
// SPDX-License-Identifier: MIT

import { createHash } from 'node:crypto';
import { readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';

const [modules, target] = process.argv.slice(2);
const tests = fileURLToPath(new URL('../tests/', import.meta.url));

/** What a golden file says of a published model, without what only other tests look at; of the logits, the digest. */
function golden(file) {
  const { model, sha256, fingerprint, prompt, logits, generations } = JSON.parse(readFileSync(file, 'utf8'));
  const logitsDigest = createHash('sha256')
    .update(new Uint8Array(Int32Array.from(logits).buffer))
    .digest('hex');
  const made = generations.map(({ options, bytes, finish }) => ({ options, bytes, finish }));
  return { model, sha256, fingerprint, prompt, logits_sha256: logitsDigest, generations: made };
}

const { spec } = JSON.parse(readFileSync(join(tests, 'conformance/streams.json'), 'utf8'));
const vectors = readdirSync(join(tests, 'conformance')).sort();
const goldens = readdirSync(join(tests, 'golden')).filter((file) => /^tinystories-.*\.json$/.test(file));
const files = {
  ...Object.fromEntries(vectors.map((name) => [name, readFileSync(join(tests, 'conformance', name))])),
  'golden.json': JSON.stringify({ spec, vectors: goldens.sort().map((name) => golden(join(tests, 'golden', name))) }),
  'simd128.wasm': readFileSync(join(modules, 'simd128.wasm')),
  'relaxed.wasm': readFileSync(join(modules, 'relaxed.wasm')),
};
const packed = Object.fromEntries(
  Object.entries(files).map(([name, content]) => [name, gzipSync(content, { level: 9 }).toString('base64')]),
);
writeFileSync(
  join(target, 'vectors.js'),
  `// The vectors of TernLM's specification, compressed (gzip, base64).
export const packed = ${JSON.stringify(packed, null, 1)};\n`,
);
writeFileSync(
  join(target, 'vectors.d.ts'),
  '/** Files by name, compressed (gzip, base64). */\nexport declare const packed: Readonly<Record<string, string>>;\n',
);
