// The demo page: loads the published model, lets it write, and reacts to the reader.
// SPDX-License-Identifier: MIT

import published from 'virtual:published-models';
import { TernError, load, type LoadProgress, type Model } from 'ternlm';
import { factsOf, megabytes, showFacts } from './card.js';
import { connectFiles, ofAddress, ofDefault, ofFile, ofName, type Choice } from './choice.js';
import { confinedWorker } from './confined.js';
import { button, element, input, select, text } from './dom.js';
import { watchRequests } from './requests.js';
import { connectKept } from './kept.js';
import { atReadingPace, connectMarks, connectSettings, keepSeed, readSettings, showSettings } from './settings.js';
import { checksumOf, fromLink, toLink, type Shared } from './share.js';
import { Story } from './story.js';
import * as view from './view.js';

const kWide = matchMedia('(min-width: 62rem)');

const prompt = element('prompt', HTMLTextAreaElement);
const composer = element('composer', HTMLFormElement);

let model: Model | null = null;
let story: Story | null = null;
let claim: Shared | null = null; // what the story, told from a link, has to come to
let loading = new AbortController();
let chosen = ofDefault();
let requests = 0;
const assets = { worker: confinedWorker(countRequest) };

async function begin(): Promise<void> {
  const shared = followed();
  const note = text('note').textContent;
  view.showPhase('loading');
  try {
    chosen = ofName(shared?.file) ?? ofAddress(location.href) ?? chosen;
    if (!chosen) {
      const explanation =
        'The page was built without a model. Publish one and build it again, or open a file of yours.';
      return view.showProblem('No model here yet', explanation, 'Look again');
    }
    const loaded = await fetchModel(chosen);
    if (loaded) use(chosen, loaded, shared, note);
  } catch (error) {
    view.showProblem(...explain(error));
  }
}

/** The story that the address asks for; a sentence is shown when that cannot be told. */
function followed(): Shared | null {
  view.showNote('');
  try {
    return fromLink(location.href, (file) => file === chosen?.file || ofName(file) !== null);
  } catch (error) {
    view.showNote(error instanceof Error ? error.message : String(error));
    return null;
  }
}

/** Null: meanwhile another one was asked for. */
async function fetchModel({ source, expected }: Choice): Promise<Model | null> {
  view.showDownload(0, expected.bytes ?? null);
  loading.abort(); // another one may be on its way
  loading = new AbortController();
  const { signal } = loading;
  try {
    const onProgress = ({ received, total }: LoadProgress): void => view.showDownload(received, total);
    return await load(source, { ...expected, onProgress, signal, assets });
  } catch (error) {
    if (signal.aborted) return null;
    throw error;
  }
}

function countRequest(): void {
  text('requests').textContent = String(++requests);
}

/** `note`: what is to be said of the link that the page was opened with. */
function use(choice: Choice, loaded: Model, shared: Shared | null = null, note = ''): void {
  [chosen, model] = [choice, loaded];
  select('model-choice').value = choice.published?.file ?? '';
  showFacts(text('facts'), factsOf(loaded.info, choice.published));
  view.showChunkMeter(loaded.info.stages);
  view.announce('The model is ready.');
  requests = -1; // from now on
  countRequest();
  if (shared && replay(shared)) return;
  const why = shared ? text('note').textContent : note;
  tell();
  if (why) view.showNote(why);
}

/** A file of the reader's own takes over when it has loaded; one that does not load changes nothing. */
async function openFile(file: File): Promise<void> {
  const choice = ofFile(file);
  story?.pause();
  view.showPhase('loading');
  try {
    const loaded = await fetchModel(choice);
    if (!loaded) return;
    await leave();
    forgetAddress();
    use(choice, loaded);
  } catch (error) {
    if (!model) return view.showProblem(...explain(error));
    view.showPhase(!story ? 'ready' : story.finished ? 'finished' : 'paused');
    view.showNote(`${file.name} was not opened: ${error instanceof Error ? error.message : String(error)}.`);
  }
}

/** A new story from what the page's controls say, or one that a link tells. */
function tell(beginning = prompt.value, options = readSettings(), shared: Shared | null = null): boolean {
  if (!model) return false;
  let told: Story;
  try {
    told = new Story(model, beginning, options, {
      onPrompt: view.showPrompt,
      onText: view.addText,
      onProgress: view.showMeters,
      onEnd: (how) => {
        view.showPhase(how);
        void judge();
      },
      onProblem: (error) => view.showProblem(...explain(error)),
    });
  } catch (error) {
    view.showNote(error instanceof TernError ? `Not started: ${error.message}.` : String(error));
    if (!story) view.showPhase('ready');
    return false;
  }
  story?.discard();
  [story, claim] = [told, shared];
  view.clearStory(beginning);
  view.clearMeters();
  if (!shared && location.hash !== '') history.replaceState(null, '', location.pathname + location.search);
  write(story);
  return true;
}

/** As far as a link says, or a page. */
function write(current: Story): void {
  view.showPhase('writing');
  void current.write(atReadingPace, claim?.length);
}

/** The same beginning again, with the seed that the reader keeps or another one. */
function tellAgain(): void {
  tell(story?.prompt);
}

/** Tells a shared story again; judge() compares it with what the sender saw. */
function replay(shared: Shared): boolean {
  prompt.value = shared.prompt;
  showSettings(shared.options);
  if (!tell(shared.prompt, shared.options, shared)) return false;
  view.showNote(`Telling a story again, from a link: ${bytesOf(shared.length)}.`);
  return true;
}

/** Says how a story that was told again compares with what its sender saw. */
async function judge(): Promise<void> {
  const [told, shared] = [story, claim];
  if (!told || !shared || !model) return;
  const whole = bytesOf(shared.length);
  if (told.length < shared.length && !told.finished) {
    return view.showNote(`Stopped after ${told.length.toLocaleString('en')} of ${whole} of the link's story.`);
  }
  claim = null;
  if (shared.model !== model.info.fingerprint) return view.showNote('This link was made with another model.');
  if (told.length < shared.length) return view.showNote(`Different bytes: ended after ${told.length} of ${whole}.`);
  const checksum = await checksumOf(told.bytes, shared.length);
  if (told !== story) return;
  if (checksum === '' || shared.checksum === '') view.showNote(`Told again from a link: ${whole}.`);
  else if (checksum === shared.checksum) view.showNote(`Told again byte for byte: ${whole}, checksum ${checksum} ✓`);
  else view.showNote(`Different bytes: expected checksum ${shared.checksum}, found ${checksum}.`);
}

function bytesOf(length: number): string {
  return `${length.toLocaleString('en')} bytes`;
}

async function share(): Promise<void> {
  if (!story || !model || !chosen) return;
  const { prompt: beginning, options, length, bytes } = story;
  const checksum = await checksumOf(bytes, length);
  const which = { file: chosen.file, model: model.info.fingerprint };
  const link = toLink({ prompt: beginning, options, length, checksum, ...which }, location.href);
  history.replaceState(null, '', link);
  try {
    await navigator.clipboard.writeText(link);
    view.showNote('Link copied. It tells this story again, byte for byte.');
  } catch {
    view.showNote('The link is in the address bar. It tells this story again, byte for byte.');
  }
}

/** What went wrong in the reader's terms: title, explanation, and what the button offers. */
function explain(error: unknown): [title: string, explanation: string, retry: string] {
  const message = (error instanceof Error ? error.message : String(error)).replaceAll(`${location.origin}/`, '');
  if (!(error instanceof TernError)) return ['Something went wrong', message, 'Try again'];
  switch (error.code) {
    case 'network':
    case 'incomplete':
      return ['The model did not arrive', `${message}.`, 'Try again'];
    case 'http':
    case 'not-the-file':
    case 'bad-file':
    case 'integrity':
      return ['The model file is not right', `${message}.`, 'Try again'];
    case 'unsupported':
    case 'bad-assets':
      return ['This browser cannot run the engine', `${message}.`, 'Try again'];
    case 'bad-option':
      return ['This address names no model of this page', `${message}.`, 'Try again'];
    case 'out-of-memory':
      return ['Not enough memory', `${message}. Closing other tabs helps.`, 'Try again'];
    default:
      return ['The engine stopped', `${message}.`, 'Start again'];
  }
}

async function leave(): Promise<void> {
  story?.discard();
  story = null;
  await model?.close();
  model = null;
}

async function restart(): Promise<void> {
  await leave();
  await begin();
}

/** From now on the built page opens without a network; a frame in a sandbox may keep nothing. */
async function keepOffline(): Promise<void> {
  if (!import.meta.env.PROD) return;
  try {
    await navigator.serviceWorker.register(new URL('service-worker.js', document.baseURI));
  } catch (error) {
    console.info(`The page will need a network: ${String(error)}`);
  }
}

/** What the main button says. */
function act(): void {
  if (!story) tell();
  else if (story.running) story.pause();
  else if (story.finished) tellAgain();
  else write(story);
}

/** A link's story, and its model, were told by its own. */
function forgetAddress(): void {
  history.replaceState(null, '', location.pathname);
}

async function choose(file: string): Promise<void> {
  chosen = ofName(file) ?? chosen;
  forgetAddress();
  await restart();
}

function connect(): void {
  text('model-field').hidden = published.length < 2;
  connectFiles(button('open-file'), input('own-file'), (file) => void openFile(file));
  select('model-choice').append(
    ...published.map(({ file, name, bytes }) => new Option(`${name} · ${megabytes(bytes)}`, file)),
  );
  select('model-choice').addEventListener('change', ({ target }) => {
    if (target instanceof HTMLSelectElement) void choose(target.value);
  });
  connectKept();
  chosen = ofName(select('model-choice').value) ?? chosen;
  connectSettings(view.showAgain);
  connectMarks(view.showMarks);
  composer.addEventListener('submit', (event) => {
    event.preventDefault();
    if (tell() && !kWide.matches) text('paper').scrollIntoView();
  });
  button('main-action').addEventListener('click', act);
  button('again').addEventListener('click', tellAgain);
  button('share').addEventListener('click', () => void share());
  button('retry').addEventListener('click', () => void restart());
  button('seed-shown').addEventListener('click', () => {
    keepSeed(story ? String(story.seed) : '');
    view.showNote('Seed kept: the next story is drawn with it.');
  });
  document.addEventListener('keydown', (event) => {
    if (event.key === 'Enter' && (event.ctrlKey || event.metaKey)) composer.requestSubmit();
    if (event.key === 'Escape') story?.pause();
  });
  for (const example of text('examples').querySelectorAll('button')) {
    example.addEventListener('click', () => {
      prompt.value = example.title;
      composer.requestSubmit();
    });
  }
  // Beside the story the panels are open; on a phone, below it, they wait until they are wanted.
  for (const id of ['settings', 'card']) element(id, HTMLDetailsElement).open = kWide.matches;
  window.addEventListener('hashchange', () => {
    if (!model) return location.hash.includes('=') ? void restart() : undefined;
    const shared = followed();
    if (!shared) return;
    if (shared.file === '' || shared.file === chosen?.file) replay(shared);
    else void restart();
  });
}

watchRequests(countRequest);
connect();
void begin().then(keepOffline);
