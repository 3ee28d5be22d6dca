// Proof: what was computed, where, and what anybody needs to come to the same bytes.
// SPDX-License-Identifier: MIT

import { effect, signal } from '@preact/signals';
import { load, type Model } from 'ternlm';
import type { ConformanceReport } from 'ternlm/conformance';
import { assets } from '../confined.js';
import { Copy } from '../parts/Copy.js';
import { presets } from '../presets.js';
import { checksumOf } from '../share.js';
import * as sheet from '../sheet.js';
import { choice, model, phase, requests } from '../state.js';
import type { Take } from '../take.js';
import type { Lens } from './index.js';

export const proof: Lens = { name: 'proof', title: 'Proof', Panel };

/** What came of telling the page's own stories again: which of them, and whether they had the recorded bytes. */
interface Check {
  readonly done: number;
  readonly same: number;
  readonly of: number;
}

const checksum = signal('');
const check = signal<Check | null>(null);

/** Of the whole specification: how far it is, what came of it, or why nothing did. */
type Conformance =
  | { readonly state: 'computing'; readonly done: number; readonly total: number }
  | { readonly state: 'computed'; readonly report: ConformanceReport }
  | { readonly state: 'failed'; readonly problem: string };

const conformance = signal<Conformance | null>(null);
let computing: AbortController | null = null;

/** Every vector of the specification, and the known bytes of the model that is loaded, if it is a published one. */
async function conform(current: Model, isPublished: boolean): Promise<void> {
  const mine = (computing = new AbortController());
  conformance.value = { state: 'computing', done: 0, total: 0 };
  try {
    const { checkConformance } = await import('ternlm/conformance');
    const report = await checkConformance(load, {
      ...(isPublished && { model: current }),
      assets,
      signal: mine.signal,
      onProgress: ({ done, total }) => void (conformance.value = { state: 'computing', done, total }),
    });
    conformance.value = { state: 'computed', report };
  } catch (error) {
    const problem = error instanceof Error ? error.message : String(error);
    conformance.value = mine.signal.aborted ? null : { state: 'failed', problem };
  } finally {
    computing = null;
  }
}

// When the writing rests: while it goes on, there is another one for each byte.
effect(() => {
  const { value: take } = sheet.take;
  checksum.value = '';
  if (!take || phase.value === 'writing') return;
  void checksumOf(take.pieces, take.length).then((found) => {
    if (take === sheet.take.value) checksum.value = found;
  });
});

/** Those that the model that is loaded has bytes recorded of. */
const ownPresets = (current: Model) => presets.filter((preset) => preset.model === current.info.fingerprint);

effect(() => {
  void model.value;
  check.value = null;
});

/** Tells all of the page's stories once more, behind the scenes. */
async function checkDevice(current: Model): Promise<void> {
  const all = ownPresets(current);
  check.value = { done: 0, same: 0, of: all.length };
  let same = 0;
  for (const [i, { prompt, options, seed, bytes, sha256 }] of all.entries()) {
    const told = await current.generate(prompt, { ...options, seed, maxBytes: bytes + 1 });
    if ((await checksumOf([told], told.bytes.length)) === sha256) same++;
    if (current !== model.value) return;
    check.value = { done: i + 1, same, of: all.length };
  }
}

function Panel() {
  const { value: take } = sheet.take;
  const { value: current } = model;
  if (!current) return <p class="lens-text">The model is on its way.</p>;
  const { fingerprint, integrity, runtime } = current.info;
  const isAtRest = take !== null && phase.value !== 'writing';
  const rows: [name: string, id: string, value: string][] = [
    ['Bytes', 'proof-bytes', isAtRest ? take.length.toLocaleString('en') : '…'],
    ['SHA-256', 'proof-sha256', checksum.value || '…'],
    ['Seed', 'proof-seed', String(take?.seed ?? '–')],
    ['Model', 'proof-model', `${fingerprint}${integrity === 'verified' ? ', as published: SHA-256 verified' : ''}`],
    ['Engine', 'proof-engine', `${runtime.variant}, products by ${runtime.kernel}`],
    [
      'Runs in',
      'proof-thread',
      `${runtime.thread === 'worker' ? 'a worker' : 'this page'}, with ${runtime.threads.count} ${runtime.threads.count === 1 ? 'thread' : 'threads'}`,
    ],
    [
      'Requests',
      'proof-requests',
      `${requests.page.value} of the page, ${requests.worker.value} of its worker since loading`,
    ],
  ];
  return (
    <div class="lens-text">
      <p>The same model, beginning, seed and settings give the same bytes in every browser, and outside of them.</p>
      <dl class="rows">
        {rows.map(([name, id, value]) => (
          <div key={id}>
            <dt>{name}</dt>
            <dd id={id}>{value}</dd>
          </div>
        ))}
      </dl>
      <div class="row">
        <button
          class="button small"
          id="check-device"
          type="button"
          disabled={ownPresets(current).length === 0 || (check.value !== null && check.value.done < check.value.of)}
          onClick={() => void checkDevice(current)}
        >
          Check this device
        </button>
        {isAtRest && (
          <Copy id="copy-report" text={() => recipeOf(current, take)}>
            Copy recipe
          </Copy>
        )}
      </div>
      <p id="checked" role="status">
        {said(check.value)}
      </p>
      <Specification current={current} />
    </div>
  );
}

/** Whether this device computes everything as models/SPEC.md says. */
function Specification({ current }: { current: Model }) {
  const { value: found } = conformance;
  const isPublished = choice.value?.published !== null;
  return (
    <>
      <p>
        All of it rests on a specification of every integer operation. Its vectors can be computed here, in half a
        minute or so, and compared.
      </p>
      <div class="row">
        <button
          class="button small"
          id="conform"
          type="button"
          onClick={() => (found?.state === 'computing' ? computing?.abort() : void conform(current, isPublished))}
        >
          {found?.state === 'computing' ? 'Stop' : 'Compute the specification'}
        </button>
        {found?.state === 'computed' && <Copy id="copy-conformance" text={() => found.report.text} />}
        {found?.state === 'computing' && (
          <progress aria-label="Computed" max={1} value={found.total === 0 ? undefined : found.done / found.total} />
        )}
      </div>
      <p id="conformed" role="status">
        {found?.state === 'failed' && `It could not be computed: ${found.problem}.`}
        {found?.state === 'computed' && verdict(found.report)}
      </p>
      {found?.state === 'computed' && (
        <pre class="snippet" id="conformance" tabIndex={0} aria-label="Report">
          {found.report.text}
        </pre>
      )}
    </>
  );
}

function verdict({ equal, groups, first }: ConformanceReport): string {
  const total = groups.reduce((sum, group) => sum + group.total, 0);
  if (equal) return `All ${total} digests are those of the specification ✓`;
  return `${first?.name ?? 'Something'} is other than the specification says: please report this device.`;
}

function said(found: Check | null): string {
  if (!found) return '';
  if (found.done < found.of) return `Telling ${found.of} stories again: ${found.done} done.`;
  if (found.same === found.of) return `All ${found.of} stories have the bytes that they have everywhere ✓`;
  return `${found.of - found.same} of ${found.of} stories have other bytes than elsewhere: please report this device.`;
}

/** Recipe, bytes and device, for whoever wants to compare them. */
function recipeOf({ info }: Model, { prompt, options, seed, length }: Take): string {
  const { temperature, topK, topP } = options;
  const report = {
    model: { file: choice.value?.file, fingerprint: info.fingerprint, integrity: info.integrity },
    recipe: { prompt, seed: String(seed), temperature, topK, topP },
    output: { bytes: length, sha256: checksum.value },
    stories: check.value,
    runtime: info.runtime,
    device: { userAgent: navigator.userAgent, processors: navigator.hardwareConcurrency },
  };
  return JSON.stringify(report, null, 2);
}
