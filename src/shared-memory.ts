/** What is used of it: the type definitions of Node have it only together with those of browsers. */
declare const WebAssembly: {
  readonly Memory: new (pages: { initial: number; maximum: number; shared: true }) => WasmMemory;
};

/** Memory of WebAssembly that threads share. */
export interface WasmMemory {
  readonly buffer: SharedArrayBuffer;
}

const PAGE_BYTES = 65_536;
/** At the end of each memory: free of the caller's data, for what a kernel needs beside it. */
export const ROOM_BYTES = 4 * PAGE_BYTES;

const memories = new WeakMap<SharedArrayBuffer, WasmMemory>();

/**
 * Memory for threads to share, of at least so many bytes and behind them the room of kernels: what lanes write into it,
 * the kernels of this thread read where it lies. It is plain shared memory, of which they need a copy, where it is larger
 * than WebAssembly can address, or where the process may not set aside the 10 GiB of addresses that each such memory takes.
 */
export function shareMemory(bytes: number): SharedArrayBuffer {
  const pages = Math.ceil((bytes + ROOM_BYTES) / PAGE_BYTES);
  let memory: WasmMemory;
  try {
    memory = new WebAssembly.Memory({ initial: pages, maximum: pages, shared: true });
  } catch {
    return new SharedArrayBuffer(pages * PAGE_BYTES);
  }
  memories.set(memory.buffer, memory);
  return memory.buffer;
}

/** The memory behind such a buffer, in the thread that made it. */
export function memoryOf(buffer: ArrayBufferLike): WasmMemory | undefined {
  return buffer instanceof SharedArrayBuffer ? memories.get(buffer) : undefined;
}
