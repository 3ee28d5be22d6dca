// What the reader can have done: load a model, write, stop, skip, tell again, share; and what comes of it.
// SPDX-License-Identifier: MIT

import { TernError, load, type GenerateOptions, type LoadProgress, type Model } from 'ternlm';
import { bytesPerChunk } from './chunks.js';
import { ofAddress, ofFile, ofName, type Choice } from './choice.js';
import { assets } from './confined.js';
import { presets, type Preset } from './presets.js';
import { checksumOf, fromLink, toLink, type Shared } from './share.js';
import * as sheet from './sheet.js';
import { keepSpeed } from './speeds.js';
import { announce } from './speech.js';
import {
  choice,
  download,
  kNoMeters,
  meters,
  model,
  note,
  options,
  phase,
  problem,
  requests,
  settings,
  type Phase,
} from './state.js';
import { Take, type Ending, type TakeEvents } from './take.js';

/** What a take has to come to: the bytes of a link's sender, or of a preset. */
interface Claim {
  readonly length: number;
  /** First digits of the SHA-256 of the bytes, or all; empty: unknown. */
  readonly checksum: string;
  /** Fingerprint of the model that wrote them. */
  readonly model: string;
  readonly from: 'link' | 'preset';
}

const kMetersEvery = 250; // milliseconds: the numbers can be read, and a phone has time for the text

let loading = new AbortController();
let claim: Claim | null = null;
let newest: Take | null = null; // which has read most of the text
let waiting = ''; // text for the next frame
let metersDue = false;
let isSkipping = false; // to the end of this piece, at full speed

// ---- The model

export async function begin(): Promise<void> {
  const shared = followed();
  const said = note.value;
  phase.value = 'loading';
  // Something to read while the model is on its way.
  if (!shared && sheet.text.value === '') sheet.reset(presets[0]?.prompt ?? '');
  try {
    const chosen = ofName(shared?.file) ?? ofAddress(location.href) ?? choice.value;
    if (!chosen) {
      const explanation =
        'The page was built without a model. Publish one and build it again, or open a file of yours.';
      return fail({ title: 'No model here yet', explanation, retry: 'Look again' });
    }
    choice.value = chosen;
    const loaded = await fetchModel(chosen);
    if (loaded) use(chosen, loaded, shared, said);
  } catch (error) {
    fail(explain(error));
  }
}

/** The story that the address asks for; a sentence is shown when that cannot be told. */
function followed(): Shared | null {
  note.value = '';
  try {
    return fromLink(location.href, (file) => file === choice.value?.file || ofName(file) !== null);
  } catch (error) {
    note.value = messageOf(error);
    return null;
  }
}

/** Null: meanwhile another one was asked for. */
async function fetchModel({ source, expected }: Choice): Promise<Model | null> {
  download.value = { received: 0, total: expected.bytes ?? null };
  loading.abort(); // another one may be on its way
  loading = new AbortController();
  const { signal } = loading;
  try {
    const onProgress = (progress: LoadProgress): void => void (download.value = progress);
    return await load(source, { ...expected, onProgress, signal, assets });
  } catch (error) {
    if (signal.aborted) return null;
    throw error;
  }
}

/** `said`: of the link that the page was opened with. */
function use(chosen: Choice, loaded: Model, shared: Shared | null = null, said = ''): void {
  [choice.value, model.value, problem.value] = [chosen, loaded, null];
  announce('The model is ready.');
  for (const count of Object.values(requests)) count.value = 0; // from now on
  if (shared && replay(shared)) return;
  const why = shared ? note.value : said;
  const [first] = presets;
  if (first && ['', first.prompt].includes(sheet.text.value)) tellPreset(first);
  else rest();
  if (why !== '') note.value = why;
}

async function leave(): Promise<void> {
  sheet.take.value?.discard();
  sheet.take.value = newest = null;
  await model.value?.close();
  model.value = null;
}

export async function restart(): Promise<void> {
  await leave();
  await begin();
}

/** The text stays. */
export async function choose(file: string): Promise<void> {
  choice.value = ofName(file) ?? choice.value;
  forgetAddress(true);
  await restart();
}

/**
 * A file of the reader's own takes over when it has loaded; one that does not load changes nothing. Answers why it was not
 * opened, else nothing.
 */
export async function openFile(file: File): Promise<string> {
  const chosen = ofFile(file);
  sheet.take.value?.pause();
  phase.value = 'loading';
  try {
    const loaded = await fetchModel(chosen);
    if (!loaded) return '';
    await leave();
    forgetAddress(true);
    use(chosen, loaded);
    return '';
  } catch (error) {
    if (!model.value) {
      fail(explain(error));
    } else {
      rest();
      note.value = `${file.name} was not opened: ${messageOf(error)}.`;
    }
    return messageOf(error);
  }
}

// ---- Writing

/** What the main button does. */
export function act(): void {
  const { value: current } = sheet.take;
  if (phase.value === 'writing') return stop();
  if (isOver()) return again();
  if (current && sheet.pen.value === sheet.text.value.length) return write(current);
  tell(sheet.pen.value);
}

/** Whether there is nothing to go on with but the beginning. */
export function isOver(): boolean {
  return phase.value === 'finished' && sheet.pen.value === sheet.text.value.length;
}

export function stop(): void {
  sheet.take.value?.pause();
}

/** Shows at once what there is to come, up to the next pause. */
export function skip(): void {
  isSkipping = true;
}

/** The model's last part once more, with the seed that the reader keeps or another one. */
export function again(): void {
  tell(sheet.from.value);
}

/** A text that has a place of its own in the past: undo leads back to the one before. */
export function tellPreset(preset: Preset): void {
  const { prompt, seed, bytes, sha256 } = preset;
  // With other settings, a seed of the reader's or another model it is another story.
  const isKnown = preset.model === model.value?.info.fingerprint && hasSettings(preset.options);
  const known = isKnown ? { length: bytes, checksum: sha256, model: preset.model, from: 'preset' as const } : null;
  const given = known ? { ...preset.options, seed } : options();
  place(prompt);
  tell(prompt.length, given, known);
}

function hasSettings({ temperature, topK, topP }: Preset['options']): boolean {
  const { value: seed } = settings.seed;
  return (
    settings.temperature.value === temperature &&
    settings.topK.value === topK &&
    settings.topP.value === topP &&
    seed.trim() === ''
  );
}

/** An empty sheet. */
export function clear(): void {
  place('');
  rest();
}

function place(words: string): void {
  pauseTake();
  if (!['', words].includes(sheet.text.value)) sheet.remember();
  sheet.reset(words);
}

/** Tells a shared story again; judge() compares it with what the sender saw. */
function replay(shared: Shared): boolean {
  const { temperature, topK, topP } = shared.options;
  const before = [settings.temperature.value, settings.topK.value, settings.topP.value] as const;
  const wasEmpty = sheet.text.value === '';
  settings.temperature.value = temperature ?? settings.temperature.value;
  settings.topK.value = topK ?? settings.topK.value;
  settings.topP.value = topP ?? settings.topP.value;
  place(shared.prompt);
  if (!tell(shared.prompt.length, shared.options, { ...shared, from: 'link' })) {
    const why = note.value;
    [settings.temperature.value, settings.topK.value, settings.topP.value] = before;
    if (wasEmpty) sheet.reset('');
    else travel(true);
    note.value = why;
    return false;
  }
  note.value = `Telling a story again, from a link: ${bytesOf(shared.length)}.`;
  return true;
}

/** Follows the link that the address has become. */
export function follow(): void {
  if (!model.value) return location.hash.includes('=') ? void restart() : undefined;
  const shared = followed();
  if (!shared) return;
  if (shared.file === '' || shared.file === choice.value?.file) replay(shared);
  else void restart();
}

/** The model goes on from a place of the text; what came after it is in the past. */
function tell(at: number, given: GenerateOptions = options(), known: Claim | null = null): boolean {
  if (!model.value) return false;
  let told: Take;
  try {
    const events: TakeEvents = {
      onText: show,
      onProgress: measure,
      onEnd: (how) => end(told, how),
      onProblem: (error) => fail(explain(error)),
    };
    told = new Take(model.value, sheet.text.value.slice(0, at), given, events, newest);
    newest = told;
  } catch (error) {
    rest();
    note.value = error instanceof TernError ? `Not started: ${error.message}.` : String(error);
    return false;
  }
  pauseTake();
  if (at < sheet.text.value.length) sheet.remember();
  sheet.cut(at);
  sheet.take.value = told;
  claim = known;
  note.value = '';
  meters.value = { ...kNoMeters, seed: String(told.seed) };
  if (known?.from !== 'link') forgetAddress();
  write(told);
  return true;
}

/** As far as a link says, or a page. */
function write(told: Take): void {
  sheet.caret.value = null;
  isSkipping = false;
  phase.value = 'writing';
  void told.write(() => settings.slowly.value && !isSkipping, claim?.from === 'link' ? claim.length : undefined);
}

/** What was being written stays as it is; undo may lead back to it. */
function pauseTake(): void {
  flush();
  sheet.take.value?.pause();
}

/** After a change by the reader. */
export function changed(): void {
  claim = null;
  rest();
  forgetAddress();
}

/** Other words in the place of what comes there, and the model goes on after them. */
export function branch(at: number, words: string): void {
  pauseTake();
  sheet.branch(at, words);
  tell(at + words.length);
}

/** Another way in which the text went on, in the place of this one. */
export function switchTo(other: sheet.Branch): void {
  pauseTake();
  sheet.switchTo(other);
  changed();
  measureNow();
}

/** Whatever is the case when nothing is being written. */
export function rest(): void {
  if (!model.value) return;
  const { value: current } = sheet.take;
  if (current) phase.value = current.finished ? 'finished' : 'paused';
  else phase.value = sheet.text.value === '' ? 'ready' : 'paused';
}

/** The reader changes the text from `start` to `end`. */
export function edit(start: number, end: number, words: string): void {
  pauseTake();
  sheet.edit(start, end, words);
  changed();
}

export function travel(isBack: boolean): void {
  pauseTake();
  if (isBack ? sheet.undo() : sheet.redo()) changed();
  measureNow();
}

// ---- What comes of it

/** Text arrives many times per frame and is shown once per frame; a screen reader gets whole sentences. */
function show(more: string): void {
  if (waiting === '') requestAnimationFrame(flush);
  waiting += more;
  announce.text(more);
}

function flush(): void {
  if (waiting !== '') sheet.append(waiting);
  waiting = '';
}

function end(told: Take, how: Ending): void {
  if (told !== sheet.take.value) return;
  flush();
  measureNow();
  if (told.speed !== null && choice.value) keepSpeed(choice.value.file, told.speed);
  phase.value = how;
  void judge(told);
}

function measure(): void {
  if (metersDue) return;
  metersDue = true;
  setTimeout(measureNow, kMetersEvery);
}

function measureNow(): void {
  metersDue = false;
  const { value: told } = sheet.take;
  if (!told) return;
  const { speed, firstByteMs, length, seed } = told;
  meters.value = { speed, firstByteMs, bytes: length, seed: String(seed), bytesPerChunk: bytesPerChunk(told) };
}

/** Says how what was told again compares with what it should be. */
async function judge(told: Take): Promise<void> {
  const known = claim;
  if (!known || !model.value) return;
  const whole = bytesOf(known.length);
  if (told.length < known.length && !told.finished) {
    if (known.from === 'link')
      note.value = `Stopped after ${told.length.toLocaleString('en')} of ${whole} of the link's story.`;
    return;
  }
  claim = null;
  if (known.model !== model.value.info.fingerprint) return void (note.value = 'This link was made with another model.');
  if (told.length < known.length) return void (note.value = `Different bytes: ended after ${told.length} of ${whole}.`);
  const checksum = (await checksumOf(told.pieces, known.length)).slice(0, known.checksum.length || 8);
  if (told !== sheet.take.value) return;
  const isSame = checksum === known.checksum;
  if (checksum === '' || known.checksum === '') note.value = `Told again from a link: ${whole}.`;
  else if (!isSame) note.value = `Different bytes: expected checksum ${known.checksum}, found ${checksum}.`;
  else if (known.from === 'link') note.value = `Told again byte for byte: ${whole}, checksum ${checksum} ✓`;
  // What was said of a link stays.
  else note.value = `${note.value} The same ${whole} as everywhere ✓`.trim();
}

export async function share(): Promise<void> {
  const { value: told } = sheet.take;
  if (!told || !model.value || !choice.value) return;
  const { prompt, length } = told;
  const checksum = (await checksumOf(told.pieces, length)).slice(0, 8);
  const which = { file: choice.value.file, model: model.value.info.fingerprint };
  const link = toLink({ prompt, options: told.options, length, checksum, ...which }, location.href);
  history.replaceState(null, '', link);
  try {
    await navigator.clipboard.writeText(link);
    note.value = 'Link copied. It tells this story again, byte for byte.';
  } catch {
    note.value = 'The link is in the address bar. It tells this story again, byte for byte.';
  }
}

/** A link tells one story; `withModel`: one of another model was told by its own. */
function forgetAddress(withModel = false): void {
  if (withModel) history.replaceState(null, '', location.pathname);
  else if (location.hash !== '') history.replaceState(null, '', location.pathname + location.search);
}

function fail(what: NonNullable<typeof problem.value>): void {
  problem.value = what;
  phase.value = 'broken' satisfies Phase;
  announce(`${what.title}. ${what.explanation}`);
}

function bytesOf(length: number): string {
  return `${length.toLocaleString('en')} bytes`;
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/** What went wrong in the reader's terms. */
function explain(error: unknown): NonNullable<typeof problem.value> {
  const message = messageOf(error).replaceAll(`${location.origin}/`, '');
  const said = (title: string, explanation: string, retry = 'Try again'): NonNullable<typeof problem.value> => ({
    title,
    explanation,
    retry,
  });
  if (!(error instanceof TernError)) return said('Something went wrong', message);
  switch (error.code) {
    case 'network':
    case 'incomplete':
      return said('The model did not arrive', `${message}.`);
    case 'http':
    case 'not-the-file':
    case 'bad-file':
    case 'integrity':
      return said('The model file is not right', `${message}.`);
    case 'unsupported':
    case 'bad-assets':
      return said('This browser cannot run the engine', `${message}.`);
    case 'bad-option':
      return said('This address names no model of this page', `${message}.`);
    case 'out-of-memory':
      return said('Not enough memory', `${message}. Closing other tabs helps.`);
    default:
      return said('The engine stopped', `${message}.`, 'Start again');
  }
}
