// What of an output is still of use: appended at the end, given up at the beginning.
// SPDX-License-Identifier: MIT

export class Kept {
  #memory = new Uint32Array(256);
  #from = 0; // place of the first number kept in the whole
  #size = 0;

  get from(): number {
    return this.#from;
  }

  /** Numbers of the whole so far. */
  get end(): number {
    return this.#from + this.#size;
  }

  append(numbers: Uint8Array | Uint32Array): void {
    const needed = this.#size + numbers.length;
    if (needed > this.#memory.length) {
      const larger = new Uint32Array(Math.max(needed, 2 * this.#memory.length));
      larger.set(this.#memory.subarray(0, this.#size));
      this.#memory = larger;
    }
    this.#memory.set(numbers, this.#size);
    this.#size = needed;
  }

  /** A copy of what comes from `place` on, which must be kept. */
  since(place: number): Uint32Array<ArrayBuffer> {
    return this.#memory.slice(place - this.#from, this.#size);
  }

  giveUpBefore(place: number): void {
    const size = this.end - place;
    if (size >= this.#size) return;
    this.#memory = new Uint32Array(this.#memory.subarray(this.#size - size, this.#size)); // gives memory back, too
    this.#from = place;
    this.#size = size;
  }
}
