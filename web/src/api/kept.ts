// The bytes of an output that are still of use: appended at the end, given up at the beginning.
// SPDX-License-Identifier: MIT

export class Kept {
  #memory = new Uint8Array(256);
  #from = 0; // place of the first byte kept in the whole
  #size = 0;

  get from(): number {
    return this.#from;
  }

  /** Bytes of the whole so far. */
  get end(): number {
    return this.#from + this.#size;
  }

  append(bytes: Uint8Array): void {
    const needed = this.#size + bytes.length;
    if (needed > this.#memory.length) {
      const larger = new Uint8Array(Math.max(needed, 2 * this.#memory.length));
      larger.set(this.#memory.subarray(0, this.#size));
      this.#memory = larger;
    }
    this.#memory.set(bytes, this.#size);
    this.#size = needed;
  }

  /** A copy of what comes from `place` on, which must be kept. */
  since(place: number): Uint8Array<ArrayBuffer> {
    return this.#memory.slice(place - this.#from, this.#size);
  }

  giveUpBefore(place: number): void {
    const size = this.end - place;
    if (size >= this.#size) return;
    this.#memory = new Uint8Array(this.#memory.subarray(this.#size - size, this.#size)); // gives memory back, too
    this.#from = place;
    this.#size = size;
  }
}
