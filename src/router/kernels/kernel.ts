import { assemble } from './assemble.js';

/** What is used of it: the type definitions of Node have it only together with those of browsers. */
declare const WebAssembly: {
  readonly Module: new (binary: Uint8Array) => object;
  readonly Instance: new (module: object) => { readonly exports: object };
};

interface Exports {
  readonly memory: { readonly buffer: ArrayBuffer; grow(pages: number): void };
  run(...args: number[]): void;
}

const PAGE = 65_536;

/**
 * A function in WebAssembly with vector instructions, and the memory that it works in: copy in, `run`, copy out.
 * Made at first use, one for each thread. Node has these instructions where the processor has SSE4.1 (x64) or NEON (ARM64).
 */
export class Kernel {
  readonly #text: string;
  #exports: Exports | undefined;
  #floats = new Float32Array(0);
  #ints = new Int32Array(0);

  constructor(text: string) {
    this.#text = text;
  }

  /** Its memory of at least `length` elements as float32 and as int32; views of earlier calls may be gone. */
  memory(length: number): { readonly floats: Float32Array; readonly ints: Int32Array } {
    if (length > this.#floats.length) this.#grow(length * 4);
    return { floats: this.#floats, ints: this.#ints };
  }

  /** Calls the function; addresses are in bytes. */
  run(...args: number[]): void {
    this.#exports!.run(...args);
  }

  #grow(bytes: number): void {
    this.#exports ??= new WebAssembly.Instance(new WebAssembly.Module(assemble(this.#text)))
      .exports as Exports;
    const { memory } = this.#exports;
    const missing = bytes - memory.buffer.byteLength;
    if (missing > 0) memory.grow(Math.ceil(missing / PAGE));
    this.#floats = new Float32Array(memory.buffer);
    this.#ints = new Int32Array(memory.buffer);
  }
}
