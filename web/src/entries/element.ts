// A story in a page without a line of script per story: the custom element <tern-story>, 'ternlm/element'.
// SPDX-License-Identifier: MIT
//
// Under any Content-Security-Policy that the package itself needs: no inline style or script, no markup from strings.

import type { GenerateResult, Generation } from '../api/generation.js';
import type { load as loadModel, LoadOptions } from '../api/model.js';
import { checked, type GenerateOptions } from '../api/options.js';
import type { ModelFile } from '../api/source.js';
import { abortable } from '../deferred.js';
import { badOption } from '../errors.js';
import { SharedModel } from './shared-model.js';

/** How the element is defined. */
export interface StoryElementOptions extends Pick<LoadOptions, 'threads' | 'runtime' | 'assets'> {
  /** The model of elements without the attribute `model`. */
  model?: ModelFile;
  /** The element's name. Default: tern-story. */
  tag?: string;
  /** What a reader sees and hears. */
  words?: Partial<StoryWords>;
}

/** What a reader sees and hears, in the language of the page. */
export interface StoryWords {
  readonly prompt: string;
  readonly write: string;
  readonly stop: string;
  readonly story: string;
  readonly loading: string;
  readonly writing: string;
  /** Behind the number of characters. */
  readonly done: string;
  readonly stopped: string;
  /** Before what failed. */
  readonly failed: string;
}

/** An element of the class that defineStory() makes. Its events: `progress`, `text`, `done` and `failed`, all bubbling. */
export interface StoryElement extends HTMLElement {
  /** What was written, without the prompt. */
  readonly text: string;
  /** Writes from the attributes; resolves when it is done, with null if it failed (the event says how). */
  write(): Promise<GenerateResult | null>;
  /** Ends the story early. */
  stop(): void;
}

const kWords: StoryWords = {
  prompt: 'How the story begins',
  write: 'Write',
  stop: 'Stop',
  story: 'Story',
  loading: 'The model is loading',
  writing: 'Writing',
  done: 'characters written',
  stopped: 'Stopped',
  failed: 'It failed',
};

/**
 * Defines <tern-story>. Attributes: `model` (an address; others share the one that is given here), `prompt`, `seed`,
 * `temperature`, `max-bytes` (`max-tokens` for models of pieces), and `autostart`, with which it writes when it comes into
 * the page. A model is loaded by the first element that writes with it, and closed when the last is gone. Does nothing if
 * the element is defined already, or where there are no elements (on a server).
 */
export function defineStory(load: typeof loadModel, options?: StoryElementOptions): void {
  const known = 'model tag words threads runtime assets';
  const { model, tag = 'tern-story', words, ...place } = checked('', options, known);
  if (typeof load !== 'function') throw badOption('load', "load() of 'ternlm' or 'ternlm/standalone'", load);
  if (typeof customElements === 'undefined' || customElements.get(tag)) return;
  const models = new Map<string, SharedModel>();
  const sharedModel = (address: string | null): SharedModel => {
    const source = address ?? model;
    if (source === undefined) throw badOption('attribute model', 'the address of a model', 'none');
    const shared = models.get(address ?? '') ?? new SharedModel((given) => load(source, { ...place, ...given }));
    models.set(address ?? '', shared);
    return shared;
  };
  customElements.define(tag, storyClass(sharedModel, { ...kWords, ...words }));
}

/** One text, from the wish to write it to its end. */
interface Run {
  readonly controller: AbortController;
  generation: Generation | null;
}

function storyClass(sharedModel: (address: string | null) => SharedModel, words: StoryWords): CustomElementConstructor {
  return class extends HTMLElement implements StoryElement {
    static readonly observedAttributes = ['prompt'];
    readonly #prompt = document.createElement('textarea');
    readonly #button = document.createElement('button');
    readonly #status = document.createElement('p');
    readonly #story = document.createElement('div');
    #shared: SharedModel | null = null; // held from the first story on
    #run: Run | null = null;
    #text = '';

    constructor() {
      super();
      const root = this.attachShadow({ mode: 'open', delegatesFocus: true });
      const label = document.createElement('label');
      label.append(words.prompt, this.#prompt);
      this.#prompt.rows = 2;
      this.#button.type = 'button';
      this.#button.textContent = words.write;
      this.#status.setAttribute('role', 'status'); // heard when it changes; the story is read at will
      this.#story.setAttribute('role', 'region');
      this.#story.setAttribute('aria-label', words.story);
      this.#story.tabIndex = 0; // it may scroll
      const parts = { prompt: this.#prompt, button: this.#button, status: this.#status, story: this.#story };
      for (const [name, part] of Object.entries(parts)) part.setAttribute('part', name);
      root.append(label, this.#button, this.#status, this.#story);
      root.adoptedStyleSheets = [newStyle()];
      this.#button.addEventListener('click', () => (this.#run ? this.stop() : void this.write()));
      root.addEventListener('keydown', (event) => this.#onKey(event));
    }

    get text(): string {
      return this.#text;
    }

    attributeChangedCallback(_: string, __: string | null, prompt: string | null): void {
      this.#prompt.value = prompt ?? '';
    }

    connectedCallback(): void {
      if (this.hasAttribute('autostart') && !this.#run && this.#text === '') void this.write();
    }

    /** Whoever only moves it puts it back at once. */
    disconnectedCallback(): void {
      setTimeout(() => {
        if (this.isConnected) return;
        this.stop();
        this.#shared?.release();
        this.#shared = null;
      });
    }

    async write(): Promise<GenerateResult | null> {
      this.stop();
      const run: Run = { controller: new AbortController(), generation: null };
      this.#run = run;
      this.#text = '';
      this.#story.replaceChildren(this.#prompt.value);
      this.#button.textContent = words.stop;
      try {
        const result = await this.#write(run, this.#prompt.value);
        if (this.#run === run)
          this.#say(result.finish === 'stopped' ? words.stopped : `${this.#text.length} ${words.done}`);
        this.#tell('done', result);
        return result;
      } catch (error) {
        if (!run.controller.signal.aborted) {
          this.#say(`${words.failed}: ${error instanceof Error ? error.message : String(error)}`);
          this.#tell('failed', error);
        }
        return null;
      } finally {
        if (this.#run === run) {
          this.#run = null;
          this.#button.textContent = words.write;
        }
      }
    }

    stop(): void {
      const run = this.#run;
      if (!run) return;
      if (run.generation) return void run.generation.stop().catch(() => undefined);
      run.controller.abort(); // it waits for the model
      this.#run = null;
      this.#button.textContent = words.write;
      this.#say(words.stopped);
    }

    async #write(run: Run, prompt: string): Promise<GenerateResult> {
      if (!this.#shared) {
        this.#shared = sharedModel(this.getAttribute('model'));
        this.#shared.hold();
      }
      const { signal } = run.controller;
      this.#say(words.loading);
      const model = await abortable(signal, async () => this.#shared?.load((loaded) => this.#tell('progress', loaded)));
      if (!model) throw new DOMException('the element has left the page', 'AbortError');
      const generation = (run.generation = model.stream(prompt, this.#options()));
      this.#say(words.writing);
      for await (const { text } of generation) {
        if (this.#run !== run) continue; // another text has begun
        this.#text += text;
        this.#story.append(text);
        if (text !== '') this.#tell('text', text);
      }
      return generation.result;
    }

    #options(): GenerateOptions {
      const number = (name: string): number | undefined => {
        const value = this.getAttribute(name);
        return value === null ? undefined : value.trim() === '' ? NaN : Number(value);
      };
      const seed = this.getAttribute('seed');
      const given = {
        seed: seed !== null && /^\d+$/.test(seed) ? BigInt(seed) : number('seed'),
        temperature: number('temperature'),
        maxBytes: number('max-bytes'),
        maxTokens: number('max-tokens'),
      };
      return Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined));
    }

    #onKey(event: Event): void {
      if (!(event instanceof KeyboardEvent)) return;
      if (event.key === 'Escape' && this.#run) this.stop();
      else if (event.key === 'Enter' && (event.ctrlKey || event.metaKey) && !this.#run) void this.write();
      else return;
      event.preventDefault();
    }

    #say(status: string): void {
      this.#status.textContent = status;
    }

    #tell(name: string, detail: unknown): void {
      this.dispatchEvent(new CustomEvent(name, { detail, bubbles: true, composed: true }));
    }
  };
}

/** Its parts can be styled from outside: ::part(prompt), ::part(button), ::part(status), ::part(story). */
function newStyle(): CSSStyleSheet {
  const style = new CSSStyleSheet();
  style.replaceSync(`
    :host { display: block; }
    :host([hidden]) { display: none; }
    label { display: grid; gap: 0.25em; }
    textarea { font: inherit; resize: vertical; }
    button { font: inherit; margin-block: 0.5em; min-inline-size: 6em; }
    p { margin: 0; min-block-size: 1.5em; }
    div { white-space: pre-wrap; overflow-wrap: anywhere; }
  `);
  return style;
}
