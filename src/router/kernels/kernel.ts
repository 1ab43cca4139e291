import type { WasmMemory } from '../../shared-memory.js';
import { assemble } from './assemble.js';

/** What is used of it: the type definitions of Node have it only together with those of browsers. */
declare const WebAssembly: {
  readonly Module: new (binary: Uint8Array) => object;
  readonly Instance: new (module: object, imports?: object) => { readonly exports: object };
};

interface Exports {
  readonly memory: { readonly buffer: ArrayBuffer; grow(pages: number): void };
  run(...args: number[]): void;
}

/** Memory as float32 and as int32, and the function that works in it; addresses are in bytes. */
export interface Workplace {
  readonly floats: Float32Array;
  readonly ints: Int32Array;
  run(...args: number[]): void;
}

const PAGE = 65_536;

/**
 * A function in WebAssembly with vector instructions. It works in memory of its own, made at first use and one for each
 * thread (copy in, `run`, copy out), or in memory that threads share.
 * Node has these instructions where the processor has SSE4.1 (x64) or NEON (ARM64).
 */
export class Kernel {
  readonly #text: string;
  #exports: Exports | undefined;
  #own: Workplace = { floats: new Float32Array(0), ints: new Int32Array(0), run: () => {} };
  #shared: object | undefined;
  readonly #places = new WeakMap<WasmMemory, Workplace>();

  constructor(text: string) {
    this.#text = text;
  }

  /** Its own memory of at least `length` elements; views of earlier calls may be gone. */
  memory(length: number): Workplace {
    if (length > this.#own.floats.length) this.#grow(length * 4);
    return this.#own;
  }

  /** The same function in memory that it does not own. */
  within(memory: WasmMemory): Workplace {
    const known = this.#places.get(memory);
    if (known) return known;
    this.#shared ??= new WebAssembly.Module(assemble(this.#text, { memory: 'shared' }));
    const { run } = new WebAssembly.Instance(this.#shared, { shared: { memory } }).exports as Exports;
    const { buffer } = memory;
    const place = { floats: new Float32Array(buffer), ints: new Int32Array(buffer), run };
    this.#places.set(memory, place);
    return place;
  }

  /** Calls the function in its own memory. */
  run(...args: number[]): void {
    this.#own.run(...args);
  }

  #grow(bytes: number): void {
    this.#exports ??= new WebAssembly.Instance(new WebAssembly.Module(assemble(this.#text)))
      .exports as Exports;
    const { memory, run } = this.#exports;
    const missing = bytes - memory.buffer.byteLength;
    if (missing > 0) memory.grow(Math.ceil(missing / PAGE));
    this.#own = { floats: new Float32Array(memory.buffer), ints: new Int32Array(memory.buffer), run };
  }
}
