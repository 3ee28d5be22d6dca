// The functions and operations of models/SPEC.md in WebAssembly (cpp/tools/conformance_wasm.cc), held against its vectors.
// SPDX-License-Identifier: MIT

/** Beyond 2^53 a text. */
type Integer = number | string;

/** Section 12 of SPEC.md says what they stand for. */
type Item =
  | Integer
  | { readonly from: Integer; readonly by: Integer }
  | { readonly count: number; readonly low: number; readonly high: number }
  | { readonly count: number; readonly bits: number; readonly unsigned?: boolean; readonly varied?: boolean };

interface Cases {
  readonly name: string;
  readonly cases: readonly (readonly [inputs: readonly Integer[], outputs: readonly Integer[]])[];
}

interface Recipe {
  readonly name: string;
  readonly calls: number;
  readonly seed: number;
  readonly inputs: readonly Item[];
  readonly first: readonly Integer[];
  readonly sha256: string;
}

/** One of functions.json or operations.json. */
export type Vector = Cases | Recipe;

/** What a vector says, and what this machine computes: the same, or the first of its cases that differs. */
export interface Answer {
  readonly name: string;
  readonly expected: string;
  readonly found: string;
}

/** PCG-XSH-RR 64/32, stream 54. */
class Random {
  #state = 0n;

  constructor(seed: number) {
    this.next();
    this.#state += BigInt(seed);
    this.next();
  }

  next(): number {
    const old = this.#state;
    this.#state = BigInt.asUintN(64, old * 6364136223846793005n + 109n);
    const [mixed, turn] = [Number(BigInt.asUintN(32, ((old >> 18n) ^ old) >> 27n)), Number(old >> 59n)];
    return ((mixed >>> turn) | (mixed << (-turn & 31))) >>> 0;
  }

  number(bits: number, unsigned: boolean): bigint {
    let word = BigInt(this.next()) << 32n;
    if (bits > 32) word |= BigInt(this.next());
    return (unsigned ? word : BigInt.asIntN(64, word)) >> BigInt(64 - bits);
  }
}

function append(numbers: bigint[], item: Item, call: number, random: Random): void {
  if (typeof item !== 'object') return void numbers.push(BigInt(item));
  if ('from' in item) return void numbers.push(BigInt(item.from) + BigInt(call) * BigInt(item.by));
  for (let n = 0; n < item.count; n++) {
    if ('low' in item) {
      numbers.push(BigInt(item.low + (random.next() % (item.high - item.low + 1))));
    } else {
      const number = random.number(item.bits, item.unsigned ?? false);
      numbers.push(item.varied ? number >> BigInt(random.next() % item.bits) : number);
    }
  }
}

/** As the signed number of the same 64 bits, which is how they come out of the module. */
const toText = (number: Integer): string => BigInt.asIntN(64, BigInt(number)).toString();

/** The module of one level of kernels. */
export class Operations {
  readonly #exports: WebAssembly.Exports;
  readonly #memory: WebAssembly.Memory;

  private constructor(exports: WebAssembly.Exports, memory: WebAssembly.Memory) {
    this.#exports = exports;
    this.#memory = memory;
    if ('_initialize' in exports) this.#call('_initialize');
  }

  static async start(wasm: Uint8Array<ArrayBuffer>): Promise<Operations> {
    const { exports } = await WebAssembly.instantiate(await WebAssembly.compile(wasm));
    if (!(exports['memory'] instanceof WebAssembly.Memory)) throw new Error('the module exports no memory');
    return new Operations(exports, exports['memory']);
  }

  /** The kernel that computes matrix products, as `info.runtime.kernel` of a model has it. */
  get kernel(): string {
    return this.#text(this.#call('kernel'));
  }

  /** SHA-256 in hexadecimal digits. */
  sha256(bytes: Uint8Array): string {
    const place = this.#call('inputs', Math.ceil(bytes.length / 8));
    new Uint8Array(this.#memory.buffer, place, bytes.length).set(bytes);
    return this.#text(this.#call('sha256', bytes.length));
  }

  /** Computes the vector; `pause` is awaited now and then, and may throw to end it. */
  async answer(vector: Vector, pause: () => Promise<void>): Promise<Answer> {
    return 'cases' in vector ? this.#answerCases(vector, pause) : this.#answerRecipe(vector, pause);
  }

  async #answerCases({ name, cases }: Cases, pause: () => Promise<void>): Promise<Answer> {
    let same = '';
    for (const [inputs, outputs] of cases) {
      const expected = outputs.map(toText).join();
      const found = this.#evaluate(name, inputs.map(BigInt)).join();
      if (found !== expected) return { name: `${name}(${inputs.slice(0, 8).join()})`, expected, found };
      same += `${found};`;
      await pause();
    }
    return { name: `${name}, ${cases.length} cases`, expected: same, found: same };
  }

  async #answerRecipe(recipe: Recipe, pause: () => Promise<void>): Promise<Answer> {
    const { calls, seed, inputs, first, sha256 } = recipe;
    const random = new Random(seed);
    const name = `${recipe.name}, ${calls} calls, seed ${seed}`;
    this.#call('digest');
    for (let call = 0; call < calls; call++) {
      const numbers: bigint[] = [];
      for (const item of inputs) append(numbers, item, call, random);
      const outputs = this.#evaluate(recipe.name, numbers);
      const [expected, found] = [first.map(toText).join(), outputs.slice(0, first.length).join()];
      if (call === 0 && found !== expected) return { name: `${name}: begins`, expected, found };
      await pause();
    }
    return { name, expected: sha256, found: this.#text(this.#call('digest')) };
  }

  /** Valid until the next call. */
  #evaluate(name: string, inputs: readonly bigint[]): BigInt64Array {
    const bytes = new TextEncoder().encode(name);
    const place = this.#call('name', bytes.length);
    new Uint8Array(this.#memory.buffer, place, bytes.length).set(bytes);
    const numbers = this.#call('inputs', inputs.length);
    new BigInt64Array(this.#memory.buffer, numbers, inputs.length).set(inputs);
    const count = this.#call('evaluate');
    if (count < 0) throw new Error(`there is no operation ${name}`);
    return new BigInt64Array(this.#memory.buffer, this.#call('outputs'), count);
  }

  #call(name: string, ...numbers: number[]): number {
    const method = this.#exports[name];
    if (typeof method !== 'function') throw new Error(`the module exports no ${name}`);
    return Number(Reflect.apply(method, undefined, numbers)) >> 0;
  }

  #text(place: number): string {
    const bytes = new Uint8Array(this.#memory.buffer, place);
    return new TextDecoder().decode(bytes.subarray(0, bytes.indexOf(0)));
  }
}
