// Hooks for React 18.2 and newer: a model that is loaded while somebody looks at it, and a text in the making.
// SPDX-License-Identifier: MIT

import { useCallback, useEffect, useRef, useState, useSyncExternalStore } from 'react';
import type { GenerateResult, Generation } from '../api/generation.js';
import type { Model } from '../api/model.js';
import type { GenerateOptions } from '../api/options.js';
import type { Input } from '../codec.js';
import { TernError } from '../errors.js';
import { SharedModel, type ModelLoader } from './shared-model.js';

export type { ModelLoader } from './shared-model.js';

/** What useModel() returns. */
export interface ModelState {
  /** Null until it is loaded. */
  readonly model: Model | null;
  readonly status: 'loading' | 'ready' | 'failed';
  /** How much of the file there is, 0 to 1; 0 where its size is not known. */
  readonly progress: number;
  /** What loading failed with; null otherwise. */
  readonly error: unknown;
  /** Loads anew, after a failure of the loading or of the engine; while it is loading, nothing. */
  readonly retry: () => void;
}

/** What useGeneration() returns. */
export interface GenerationState {
  /** What was written so far. */
  readonly text: string;
  readonly status: 'idle' | 'writing' | 'done' | 'failed';
  /** When it is done, also if it was stopped. */
  readonly result: GenerateResult | null;
  /** What writing failed with; null otherwise. */
  readonly error: unknown;
  /** Begins a new text; one that is still being written is given up. */
  readonly write: (prompt: Input, options?: GenerateOptions) => void;
  /** Ends the text early. */
  readonly stop: () => void;
}

/**
 * Loads the model while a component is mounted that uses it, and closes it when the last one is gone. Components that
 * pass the same function share one model. The first function counts: for another model give the component another key.
 *
 * ```tsx
 * const loadStories = (options: LoadOptions) => load(stories, options);
 * function Story() {
 *   const { model, status, progress } = useModel(loadStories);
 * ```
 */
export function useModel(loader: ModelLoader): ModelState {
  const [store] = useState(() => storeOf(loader));
  return useSyncExternalStore(store.subscribe, store.state, store.state);
}

/** Writes with a model, null until it is there. What is being written ends with the component, or when the model changes. */
export function useGeneration(model: Model | null): GenerationState {
  const [state, setState] = useState(kIdle);
  const current = useRef<Generation | null>(null);

  const leave = useCallback(() => {
    const generation = current.current;
    current.current = null;
    void generation?.stop().catch(() => undefined);
    setState((before) => (before.status === 'writing' ? { ...before, status: 'idle' } : before));
  }, []);
  useEffect(() => leave, [leave, model]);

  const write = useCallback(
    (prompt: Input, options?: GenerateOptions) => {
      leave();
      try {
        if (!model) throw new TernError('bad-state', 'write(): there is no model yet');
        const generation = (current.current = model.stream(prompt, options));
        const change = (next: (before: Written) => Written): void => {
          if (current.current === generation) setState(next);
        };
        setState({ ...kIdle, status: 'writing' });
        follow(generation, change).catch((error: unknown) =>
          change((before) => ({ ...before, status: 'failed', error })),
        );
      } catch (error) {
        setState({ ...kIdle, status: 'failed', error });
      }
    },
    [leave, model],
  );
  const stop = useCallback(() => void current.current?.stop().catch(() => undefined), []);
  return { ...state, write, stop };
}

type Written = Pick<GenerationState, 'text' | 'status' | 'result' | 'error'>;

const kIdle: Written = { text: '', status: 'idle', result: null, error: null };

async function follow(generation: Generation, change: (next: (before: Written) => Written) => void): Promise<void> {
  for await (const { text } of generation) {
    if (text !== '') change((before) => ({ ...before, text: before.text + text }));
  }
  const result = await generation.result;
  change((before) => ({ ...before, status: 'done', result }));
}

// ---- Models that components share ----

const stores = new WeakMap<ModelLoader, ModelStore>();

function storeOf(loader: ModelLoader): ModelStore {
  const store = stores.get(loader) ?? new ModelStore(loader);
  stores.set(loader, store);
  return store;
}

const kLoading = { model: null, status: 'loading', progress: 0, error: null } as const;

class ModelStore {
  readonly #shared: SharedModel;
  readonly #listeners = new Set<() => void>();
  #state: ModelState = { ...kLoading, retry: () => this.#retry() };
  #attempt = 0;

  constructor(loader: ModelLoader) {
    this.#shared = new SharedModel(loader);
  }

  readonly state = (): ModelState => this.#state;

  /** The first to listen has it loaded. */
  readonly subscribe = (listener: () => void): (() => void) => {
    const own = (): void => listener(); // the same listener may come twice
    this.#listeners.add(own);
    this.#shared.hold();
    if (this.#listeners.size === 1 && this.#state.status !== 'ready') void this.#load();
    return () => {
      this.#listeners.delete(own);
      // StrictMode, and moves in the tree, leave and come back at once: nothing is loaded twice for that.
      setTimeout(() => {
        this.#shared.release();
        if (this.#shared.isHeld) return;
        this.#attempt++;
        this.#state = { ...this.#state, ...kLoading };
      });
    };
  };

  #retry(): void {
    if (this.#listeners.size === 0 || this.#state.status === 'loading') return;
    this.#shared.forget();
    void this.#load();
  }

  async #load(): Promise<void> {
    const attempt = ++this.#attempt;
    const change = (next: Partial<ModelState>): void => {
      if (attempt !== this.#attempt) return;
      this.#state = { ...this.#state, ...next };
      for (const listener of [...this.#listeners]) listener();
    };
    change(kLoading);
    try {
      const model = await this.#shared.load((progress) => change({ progress }));
      change({ model, status: 'ready', progress: 1 });
    } catch (error) {
      change({ status: 'failed', error });
    }
  }
}
