import { ROOM_BYTES, shareMemory } from '../shared-memory.js';

const LEAST_BYTES = 64 * 1024;
/** What is kept for calls to come, at most. */
const MOST_KEPT_BYTES = 512 * 2 ** 20;

/**
 * Memory of calls that are over, for calls to come. The system hands new memory out page by page, each one zeroed when
 * it is first written, which takes longer than copying rows into it; and threads that have seen memory keep it until
 * they collect their garbage.
 */
export class MemoryPool {
  /** Smallest first. */
  #free: SharedArrayBuffer[] = [];

  /** Memory of at least this length, which may hold anything. */
  take(bytes: number): SharedArrayBuffer {
    const fit = this.#free.findIndex(({ byteLength }) => byteLength >= bytes + ROOM_BYTES);
    if (fit >= 0) return this.#free.splice(fit, 1)[0]!;
    // Pages that no call writes to are never handed out.
    return shareMemory(2 ** Math.ceil(Math.log2(Math.max(bytes, LEAST_BYTES))));
  }

  /** Takes back memory that nobody uses any more. */
  give(memory: SharedArrayBuffer): void {
    this.#free = [...this.#free, memory].sort((a, b) => a.byteLength - b.byteLength);
    let kept = this.#free.reduce((sum, { byteLength }) => sum + byteLength, 0);
    while (kept > MOST_KEPT_BYTES) kept -= this.#free.pop()!.byteLength;
  }
}
