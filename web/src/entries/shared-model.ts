// One loaded model for several users: loaded when the first wants it, closed when the last has gone.
// SPDX-License-Identifier: MIT

import type { LoadOptions, Model } from '../api/model.js';
import type { LoadProgress } from '../api/progress.js';

/** What loads a model: `(options) => load(stories, options)`. */
export type ModelLoader = (options: LoadOptions) => Promise<Model>;

/** How much of the file there is, 0 to 1; 0 where its size is not known. */
type OnLoaded = (part: number) => void;

export class SharedModel {
  readonly #source: Model | ModelLoader;
  readonly #listeners = new Set<OnLoaded>();
  #users = 0;
  #loading: { readonly promise: Promise<Model>; readonly controller: AbortController } | null = null;
  #model: Model | null = null;

  /** A model that is loaded already stays open. */
  constructor(source: Model | ModelLoader) {
    this.#source = source;
    if (typeof source !== 'function') this.#model = source;
  }

  get model(): Model | null {
    return this.#model;
  }

  get isLoading(): boolean {
    return this.#loading !== null && this.#model === null;
  }

  get isHeld(): boolean {
    return this.#users > 0;
  }

  /** Somebody uses it, loaded or not, until release(). */
  hold(): void {
    this.#users++;
  }

  /** The last to go ends the loading or closes the model. */
  release(): void {
    if (--this.#users === 0) this.forget();
  }

  /** The next load() begins anew. */
  forget(): void {
    if (typeof this.#source !== 'function') return;
    const [loading, model] = [this.#loading, this.#model];
    this.#loading = this.#model = null;
    loading?.controller.abort(new DOMException('nobody waits for the model any more', 'AbortError'));
    void model?.close();
  }

  /** Called by whoever holds it. A failure is everybody's who waits; the next call tries again. */
  async load(onLoaded: OnLoaded): Promise<Model> {
    if (this.#model) return this.#model;
    this.#listeners.add(onLoaded);
    try {
      this.#loading ??= this.#begin(this.#source);
      return await this.#loading.promise;
    } finally {
      this.#listeners.delete(onLoaded);
    }
  }

  #begin(source: Model | ModelLoader): { promise: Promise<Model>; controller: AbortController } {
    const controller = new AbortController();
    const { signal } = controller;
    const onProgress = ({ received, total }: LoadProgress): void => {
      const part = total === null ? 0 : Math.min(1, received / total);
      for (const tell of this.#listeners) tell(part);
    };
    const load = async (): Promise<Model> => {
      if (typeof source !== 'function') return source;
      try {
        const model = await source({ signal, onProgress });
        if (!signal.aborted) return (this.#model = model);
        void model.close(); // of a loader that did not look at its signal
        throw signal.reason;
      } catch (error) {
        if (!signal.aborted) this.#loading = null; // the next call tries again
        throw error;
      }
    };
    const promise = load();
    promise.catch(() => undefined); // nobody may be left who waits for it
    return { promise, controller };
  }
}
