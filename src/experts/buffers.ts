/** Below this the memory comes from the heap of the process, whose pages are there already. */
const MIN_POOLED_BYTES = 64 * 1024;
/** Sizes are rounded up, so that calls with about as many rows fit into each other's buffers. */
const STEP_BYTES = 256 * 1024;

/**
 * Buffers of calls that are over, for calls to come: the system hands out memory of this size page by page, each one
 * zeroed when it is first written, which takes longer than copying rows into it.
 */
export class BufferPool {
  readonly #free: ArrayBuffer[] = [];
  readonly #most: number;

  /** Keeps at most `most` buffers. */
  constructor(most: number) {
    this.#most = most;
  }

  /** A buffer of at least this length, which may hold anything. */
  take(bytes: number): ArrayBuffer {
    if (bytes < MIN_POOLED_BYTES) return new ArrayBuffer(bytes);
    const fit = this.#free.findIndex(
      ({ byteLength }) => byteLength >= bytes && byteLength <= 2 * bytes + STEP_BYTES,
    );
    if (fit >= 0) return this.#free.splice(fit, 1)[0]!;
    return new ArrayBuffer(Math.ceil(bytes / STEP_BYTES) * STEP_BYTES);
  }

  /** Takes back a buffer that nobody uses any more; the one that was here longest makes room. */
  give(buffer: ArrayBuffer): void {
    if (buffer.byteLength < MIN_POOLED_BYTES) return;
    this.#free.push(buffer);
    if (this.#free.length > this.#most) this.#free.shift();
  }
}
