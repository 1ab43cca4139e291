/*
 * The rows of one layer call in memory that the calling thread and its lanes share:
 *
 *   int32    READY, then for each piece its key, first row, rows and state
 *   float32  [rows, H] x of all batches; y of a piece takes the place of its x once it is whole
 *
 * The caller gathers while lanes compute what is there already. A piece is computed by the task that changes its state
 * from FREE to its own number; no other touches its rows.
 */

/** Rows of one expert, in the memory of a call. */
export interface SharedPiece {
  /** The key under which lanes hold the expert. */
  readonly key: number;
  readonly first: number;
  readonly rows: number;
}

/** What of a call is sent to a lane. */
export interface SharedCallHandle {
  readonly memory: SharedArrayBuffer;
  readonly pieces: number;
  /** H */
  readonly hidden: number;
}

/** Rows whose x is there; FAILED where the caller could not gather. */
const READY = 0;
const HEAD = 1;
const FIELDS = 4;
const [KEY, FIRST, ROWS, STATE] = [0, 1, 2, 3] as const;
const FAILED = -1;
/** States beside the numbers of tasks. */
const FREE = 0;
const WHOLE = -1;
const ALIGN = 64;

export class SharedCall {
  readonly handle: SharedCallHandle;
  readonly #words: Int32Array;
  readonly #start: number;

  constructor(handle: SharedCallHandle) {
    this.handle = handle;
    this.#words = new Int32Array(handle.memory, 0, HEAD + handle.pieces * FIELDS);
    this.#start = headBytes(handle.pieces);
  }

  /** Bytes of a call. */
  static bytes({ pieces, rows, hidden }: { pieces: number; rows: number; hidden: number }): number {
    return headBytes(pieces) + rows * hidden * Float32Array.BYTES_PER_ELEMENT;
  }

  /** Makes a call of memory that may hold anything. */
  static layOut(memory: SharedArrayBuffer, pieces: readonly SharedPiece[], hidden: number): SharedCall {
    const call = new SharedCall({ memory, pieces: pieces.length, hidden });
    const words = call.#words;
    words.fill(0);
    for (const [i, { key, first, rows }] of pieces.entries()) {
      const at = HEAD + i * FIELDS;
      words[at + KEY] = key;
      words[at + FIRST] = first;
      words[at + ROWS] = rows;
    }
    return call;
  }

  piece(i: number): SharedPiece {
    const at = HEAD + i * FIELDS;
    const words = this.#words;
    return { key: words[at + KEY]!, first: words[at + FIRST]!, rows: words[at + ROWS]! };
  }

  /** [rows, H] in place. */
  rows({ first, rows }: { readonly first: number; readonly rows: number }): Float32Array<SharedArrayBuffer> {
    const { memory, hidden } = this.handle;
    const at = this.#start + first * hidden * Float32Array.BYTES_PER_ELEMENT;
    return new Float32Array(memory, at, rows * hidden);
  }

  /** The caller's: x of the first `rows` rows is there. */
  ready(rows: number): void {
    Atomics.store(this.#words, READY, rows);
    Atomics.notify(this.#words, READY);
  }

  /** The caller's: lanes take nothing any more. */
  fail(): void {
    this.ready(FAILED);
  }

  /** A lane's: takes a piece for task number `task`, from 1 up, and waits for its x; false where it is not to be had. */
  take(i: number, task: number): boolean {
    if (Atomics.load(this.#words, READY) === FAILED) return false;
    if (Atomics.compareExchange(this.#words, this.#stateOf(i), FREE, task) !== FREE) return false;
    const { first, rows } = this.piece(i);
    for (;;) {
      const ready = Atomics.load(this.#words, READY);
      if (ready >= first + rows) return true;
      if (ready === FAILED) return false;
      // The caller gathers without a break, so this is a matter of microseconds.
      Atomics.wait(this.#words, READY, ready);
    }
  }

  /** A lane's: y of a piece that it took is in place. */
  whole(i: number): void {
    Atomics.store(this.#words, this.#stateOf(i), WHOLE);
  }

  /** The caller's: whether y of a piece is there. */
  isWhole(i: number): boolean {
    return Atomics.load(this.#words, this.#stateOf(i)) === WHOLE;
  }

  /** The caller's, once task `task` will do no more: the pieces that it took and did not do are free again; x is as it came. */
  release(task: number): number[] {
    const released: number[] = [];
    for (let i = 0; i < this.handle.pieces; i++) {
      if (Atomics.compareExchange(this.#words, this.#stateOf(i), task, FREE) === task) released.push(i);
    }
    return released;
  }

  isFree(i: number): boolean {
    return Atomics.load(this.#words, this.#stateOf(i)) === FREE;
  }

  #stateOf(i: number): number {
    return HEAD + i * FIELDS + STATE;
  }
}

function headBytes(pieces: number): number {
  const bytes = (HEAD + pieces * FIELDS) * Int32Array.BYTES_PER_ELEMENT;
  return Math.ceil(bytes / ALIGN) * ALIGN;
}
