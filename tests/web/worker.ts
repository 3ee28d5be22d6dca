// A stand-in for the browsers' Worker: a real host at the other end of the messages, which can also be silent or die.
// SPDX-License-Identifier: MIT

import { vi } from 'vitest';
import { Host } from '../../web/src/host/host.js';
import type { ToHost } from '../../web/src/host/protocol.js';

export class StandInWorker extends EventTarget {
  static readonly all: StandInWorker[] = [];
  static speaks = true;
  terminated = false;
  /** Whether the program must go on because of it, as outside of browsers. */
  holds = true;
  readonly #host: Host;

  constructor() {
    super();
    this.#host = new Host((message, transfer) => {
      const data: unknown = structuredClone(message, { transfer });
      setImmediate(() => {
        if (StandInWorker.speaks && !this.terminated) this.dispatchEvent(new MessageEvent('message', { data }));
      });
    });
    StandInWorker.all.push(this);
  }

  postMessage(message: ToHost, transfer: Transferable[]): void {
    const copy = structuredClone(message, { transfer });
    setImmediate(() => {
      if (!this.terminated) this.#host.receive(copy);
    });
  }

  ref(): void {
    this.holds = true;
  }

  unref(): void {
    this.holds = false;
  }

  terminate(): void {
    this.terminated = true;
    this.#host.close();
  }

  /** As when it is terminated by somebody else: nobody is told. */
  vanish(): void {
    this.terminated = true;
  }

  /** As when its script throws, or the browser takes its memory. */
  die(why: string): void {
    this.terminated = true;
    this.dispatchEvent(Object.assign(new Event('error', { cancelable: true }), { message: why }));
  }
}

/** From now on there are workers. */
export function withWorkers(speaks = true): void {
  StandInWorker.all.length = 0;
  StandInWorker.speaks = speaks;
  vi.stubGlobal('Worker', StandInWorker);
}
