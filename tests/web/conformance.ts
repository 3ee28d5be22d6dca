// The functions and operations of models/SPEC.md in WebAssembly (cpp/tools/conformance_wasm.cc), held against the vectors
// of tests/conformance. Runs in Node and in browsers.
// SPDX-License-Identifier: MIT

/** The builds of the engine; what each is for is in the names of its kernels. */
export type Level = 'scalar' | 'simd128' | 'relaxed';

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

export type Vector = Cases | Recipe;

interface Module {
  inputs(count: number): BigInt64Array;
  evaluate(name: string): BigInt64Array | undefined;
  digest(): string;
  kernel(): string;
}

/** What Emscripten's generated script exports. */
export interface Script {
  readonly default: (options: { wasmBinary: Uint8Array }) => Promise<Module>;
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

export class Operations {
  readonly #module: Module;

  private constructor(module: Module) {
    this.#module = module;
  }

  static async start(script: Script, wasm: Uint8Array): Promise<Operations> {
    return new Operations(await script.default({ wasmBinary: wasm }));
  }

  get kernel(): string {
    return this.#module.kernel();
  }

  /** Those of the vectors that are answered otherwise. */
  wrong(vectors: readonly Vector[]): string[] {
    return vectors.flatMap((vector) => {
      const same = 'cases' in vector ? this.#answersCases(vector) : this.#answersRecipe(vector);
      return same
        ? []
        : [`${vector.name} ${JSON.stringify('cases' in vector ? 'cases' : vector.inputs).slice(0, 100)}`];
    });
  }

  #answersCases({ name, cases }: Cases): boolean {
    return cases.every(
      ([inputs, outputs]) => this.#evaluate(name, inputs.map(BigInt)).join() === outputs.map(toText).join(),
    );
  }

  #answersRecipe({ name, calls, seed, inputs, first, sha256 }: Recipe): boolean {
    const random = new Random(seed);
    let same = true;
    this.#module.digest();
    for (let call = 0; call < calls; call++) {
      const numbers: bigint[] = [];
      for (const item of inputs) append(numbers, item, call, random);
      const outputs = this.#evaluate(name, numbers);
      if (call === 0) same = outputs.slice(0, first.length).join() === first.map(toText).join();
    }
    return this.#module.digest() === sha256 && same;
  }

  /** Valid until the next call. */
  #evaluate(name: string, inputs: readonly bigint[]): BigInt64Array {
    this.#module.inputs(inputs.length).set(inputs);
    const outputs = this.#module.evaluate(name);
    if (!outputs) throw new Error(`there is no operation ${name}`);
    return outputs;
  }
}
