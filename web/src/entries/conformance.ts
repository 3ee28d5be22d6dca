// Recomputes the digests of models/SPEC.md's vectors, and golden bytes, on the reader's machine: 'ternlm/conformance'.
// SPDX-License-Identifier: MIT
//
// Loads nothing of the engine by itself: what is held against the vectors is the load() that the page gives.

import type { load as loadModel, LoadOptions, Model } from '../api/model.js';
import { checked, toSignal, type CallOptions } from '../api/options.js';
import type { ModelFile } from '../api/source.js';
import { runtimeName } from '../context.js';
import { badOption } from '../errors.js';
import type { RuntimeInfo } from '../link/start.js';
import { Operations, type Answer } from './operations.js';
import { answer, answersTo } from './streams.js';
import { kSpec, nameOf, readGoldens, readOperations, readStreams, unpacked, type Golden } from './vectors.js';

/** load() of 'ternlm', or of 'ternlm/standalone': the one that the page uses. */
export type Load = typeof loadModel;

export interface ConformanceOptions extends CallOptions, Pick<LoadOptions, 'threads' | 'runtime' | 'assets'> {
  /** A published model, loaded (then it is left open) or not: what it writes is compared, too. */
  model?: Model | ModelFile;
  /** Hears how many of the digests are computed. */
  onProgress?: (progress: ConformanceProgress) => void;
}

export interface ConformanceProgress {
  readonly done: number;
  readonly total: number;
}

/** Digests of one kind. */
export interface ConformanceGroup {
  /** 'streams', 'operations', or the name of the model. */
  readonly name: string;
  readonly total: number;
  readonly equal: number;
  /** Variant, kernel, thread and threads that computed them. */
  readonly engine: string;
}

/** Something that this machine computes otherwise. */
export interface Difference {
  /** Which vector, its group first. */
  readonly name: string;
  readonly expected: string;
  readonly found: string;
}

export interface ConformanceReport {
  /** Whether every digest is what the specification says. */
  readonly equal: boolean;
  /** Version of the specification. */
  readonly spec: string;
  /** The browser as it calls itself; or Node, Deno or Bun. */
  readonly browser: string;
  readonly groups: readonly ConformanceGroup[];
  /** The first that differs; null where all are equal. */
  readonly first: Difference | null;
  /** SHA-256 over everything that was computed: where all is equal, the same on every machine. */
  readonly sha256: string;
  readonly seconds: number;
  /** All of this as lines to be pasted. */
  readonly text: string;
}

/**
 * Computes every vector of the specification and, of a published model, its golden bytes. Fails with what load() fails
 * with, with `bad-option` for a model whose golden bytes are not known, or with the signal's reason; what differs is no
 * failure, but in the report. Takes seconds: the operations on this thread, in slices of about 10 ms.
 */
export async function checkConformance(load: Load, options?: ConformanceOptions): Promise<ConformanceReport> {
  const started = performance.now();
  const { model, onProgress, signal, place } = toOrder(load, options);
  const golden = model && (await goldenOf(model));
  const streams = await readStreams();
  const vectors = await readOperations();
  const total = [...streams, ...(golden ? [golden] : [])].reduce((sum, text) => sum + answersTo(text), vectors.length);
  const answers: Placed[] = [];
  const addTo = (group: string, engine: string) => (found: Answer) => {
    answers.push({ ...found, group, engine });
    onProgress?.({ done: answers.length, total });
  };
  onProgress?.({ done: 0, total });

  let operations: Operations | null = null;
  for (const text of streams) {
    const loaded = await load(await unpacked(text.model), { ...place, integrity: text.sha256, signal });
    try {
      const { runtime } = loaded.info; // says which of the modules runs here
      operations ??= await Operations.start(
        await unpacked(`${runtime.variant === 'simd' ? 'simd128' : 'relaxed'}.wasm`),
      );
      await answer(text, { model: loaded, operations, signal, add: addTo('streams', engineOf(runtime)) });
    } finally {
      await loaded.close();
    }
  }
  if (!operations) throw new Error('there are no streams');
  const pause = newPause(signal);
  const addOperation = addTo('operations', `kernel ${operations.kernel}`);
  for (const vector of vectors) addOperation(await operations.answer(vector, pause));
  if (model && golden) {
    const loaded = isFile(model) ? await load(model, { ...place, signal }) : model;
    try {
      const add = addTo(nameOf(golden), engineOf(loaded.info.runtime));
      await answer(golden, { model: loaded, operations, signal, add });
    } finally {
      if (loaded !== model) await loaded.close();
    }
  }
  const everything = answers.map(({ group, name, found }) => `${group}: ${name}: ${found}\n`).join('');
  const sha256 = operations.sha256(new TextEncoder().encode(everything));
  return toReport(answers, sha256, (performance.now() - started) / 1000);
}

/** An answer, and where it was found. */
interface Placed extends Answer {
  readonly group: string;
  readonly engine: string;
}

interface Order {
  readonly model: Model | ModelFile | undefined;
  readonly onProgress: ((progress: ConformanceProgress) => void) | undefined;
  readonly signal: AbortSignal | undefined;
  readonly place: LoadOptions;
}

function toOrder(load: unknown, options: ConformanceOptions | undefined): Order {
  if (typeof load !== 'function') throw badOption('load', "load() of 'ternlm' or 'ternlm/standalone'", load);
  const known = 'model threads runtime assets signal onProgress';
  const { model, onProgress, signal, ...place } = checked('', options, known);
  if (onProgress !== undefined && typeof onProgress !== 'function') {
    throw badOption('onProgress', 'a function', onProgress);
  }
  const given: unknown = model;
  if (given !== undefined && !(given instanceof Object && ('sha256' in given || 'info' in given))) {
    throw badOption('model', "a model that was loaded, or a file of 'ternlm/models/...'", given);
  }
  return { model, onProgress, signal: toSignal(signal), place };
}

function isFile(model: Model | ModelFile): model is ModelFile {
  return 'sha256' in model;
}

/** What is known of the model. */
async function goldenOf(model: Model | ModelFile): Promise<Golden> {
  const goldens = await readGoldens();
  const found = goldens.find(({ sha256, fingerprint }) =>
    isFile(model) ? model.sha256.toLowerCase() === sha256 : model.info.fingerprint === fingerprint,
  );
  if (found) return found;
  const names = goldens.map(nameOf).join(', ');
  throw badOption('model', `one whose bytes are known (${names})`, isFile(model) ? model.sha256 : model.info.name);
}

const kSliceMs = 10;

/** Lets others have the thread when a slice is over, and ends the work when the signal says so. */
function newPause(signal: AbortSignal | undefined): () => Promise<void> {
  let began = performance.now();
  return async () => {
    if (performance.now() - began < kSliceMs) return;
    await new Promise((resolve) => setTimeout(resolve));
    signal?.throwIfAborted();
    began = performance.now();
  };
}

// ---- The report ----

function toReport(answers: readonly Placed[], sha256: string, seconds: number): ConformanceReport {
  const isEqual = ({ expected, found }: Answer): boolean => expected === found;
  const groups = [...new Set(answers.map(({ group }) => group))].map((name) => {
    const inside = answers.filter(({ group }) => group === name);
    return { name, total: inside.length, equal: inside.filter(isEqual).length, engine: inside[0]?.engine ?? '' };
  });
  const other = answers.find((each) => !isEqual(each));
  const first = other ? { name: `${other.group}: ${other.name}`, expected: other.expected, found: other.found } : null;
  const report = { equal: !first, spec: kSpec, browser: browserName(), groups, first, sha256, seconds };
  return { ...report, text: toText(report) };
}

function toText({ equal, spec, browser, groups, first, sha256, seconds }: Omit<ConformanceReport, 'text'>): string {
  const lines: [what: string, is: string][] = [
    ['browser', browser],
    ...groups.map(({ name, total, equal, engine }): [string, string] => [
      name,
      `${equal} of ${total} equal (${engine})`,
    ]),
    ...(first ? differenceOf(first) : []),
    ['digest', `${sha256} (${seconds.toFixed(1)} s)`],
  ];
  const width = Math.max(...lines.map(([what]) => what.length));
  const verdict = equal ? 'conforms' : 'DOES NOT CONFORM';
  return [
    `TernLM ${verdict} to specification ${spec}`,
    ...lines.map(([what, is]) => `${what.padEnd(width)}  ${is}`),
  ].join('\n');
}

const kShown = 64;

/** From where they differ. */
function differenceOf({ name, expected, found }: Difference): [string, string][] {
  let at = 0;
  while (at < expected.length && expected[at] === found[at]) at++;
  const from = (text: string): string => `${text.slice(at, at + kShown)}${text.length > at + kShown ? '…' : ''}`;
  return [
    ['first other', `${name}, from character ${at}`],
    ['expected', from(expected)],
    ['found', from(found)],
  ];
}

function engineOf({ variant, kernel, thread, threads }: RuntimeInfo): string {
  return `${variant}, kernel ${kernel}, ${thread} thread, ${threads.count} thread${threads.count === 1 ? '' : 's'}`;
}

function browserName(): string {
  const runtime = runtimeName();
  if (!runtime) return navigator.userAgent;
  return `${runtime} ${process.versions[runtime.toLowerCase()] ?? ''}`.trimEnd();
}
