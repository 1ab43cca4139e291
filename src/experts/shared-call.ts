import { bytesIn, copyRows, type Matrix } from '../tensor.js';

/*
 * One layer call in memory that the calling thread and its lanes share:
 *
 *   int32    FAILED, then for each piece its key, first row, rows and state
 *   int32    [A] the row of x that each row of the call is
 *   float32  [A] by what each is multiplied, where they are scaled
 *   float32  [X, H] x, written before lanes are told
 *   float32  [A, H] y, written by them
 *
 * Behind it the memory has the room of kernels (`shareMemory`): the calling thread sums y where it lies.
 * A piece is computed by the task that changes its state from FREE to its own number; no other touches its y.
 */

/** Rows of one expert, in the memory of a call. */
export interface SharedPiece {
  /** The key under which lanes hold the expert. */
  readonly key: number;
  readonly first: number;
  readonly rows: number;
}

export interface SharedCallSizes {
  readonly pieces: number;
  /** A: rows of all pieces. */
  readonly rows: number;
  /** X: rows that they are taken from. */
  readonly sources: number;
  /** H */
  readonly hidden: number;
  readonly scaled: boolean;
}

/** What of a call is sent to a lane. */
export interface SharedCallHandle extends SharedCallSizes {
  readonly memory: SharedArrayBuffer;
}

const FAILED = 0;
const HEAD = 1;
const FIELDS = 4;
const [KEY, FIRST, ROWS, STATE] = [0, 1, 2, 3] as const;
/** States beside the numbers of tasks. */
const FREE = 0;
const WHOLE = -1;
const ALIGN = 64;

export class SharedCall {
  readonly handle: SharedCallHandle;
  /** The caller's to write before lanes are told; `scales` is empty where rows are not scaled. */
  readonly indexes: Int32Array;
  readonly scales: Float32Array;
  readonly x: Matrix;
  readonly #words: Int32Array;
  readonly #y: number;

  constructor(handle: SharedCallHandle) {
    const { memory, pieces, rows, sources, hidden, scaled } = handle;
    const at = placesOf(handle);
    this.handle = handle;
    this.#words = new Int32Array(memory, 0, HEAD + pieces * FIELDS);
    this.indexes = new Int32Array(memory, at.indexes, rows);
    this.scales = new Float32Array(memory, at.scales, scaled ? rows : 0);
    this.x = { rows: sources, cols: hidden, data: new Float32Array(memory, at.x, sources * hidden) };
    this.#y = at.y;
  }

  static bytes(sizes: SharedCallSizes): number {
    return placesOf(sizes).end;
  }

  /** Makes a call of memory that may hold anything. */
  static layOut(handle: SharedCallHandle, pieces: readonly SharedPiece[]): SharedCall {
    const call = new SharedCall(handle);
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

  /** Writes x of rows of the call into `into` [rows, H]. */
  gather({ first, rows }: Omit<SharedPiece, 'key'>, into: Float32Array): void {
    const of = <A extends Int32Array | Float32Array>(all: A) => all.subarray(first, first + rows) as A;
    const scales = this.handle.scaled ? of(this.scales) : undefined;
    copyRows({ x: this.x, rows: of(this.indexes), scales }, into, 0);
  }

  /** y [rows, H] of rows of the call, in place. */
  y({ first, rows }: Omit<SharedPiece, 'key'>): Float32Array<SharedArrayBuffer> {
    const { memory, hidden } = this.handle;
    return new Float32Array(memory, this.#y + first * hidden * FLOAT_BYTES, rows * hidden);
  }

  /** Nobody wants the rest: no piece is to be had any more. */
  fail(): void {
    Atomics.store(this.#words, FAILED, 1);
  }

  /** A lane's: takes a piece for task number `task`, from 1 up; false where it is not to be had. */
  take(i: number, task: number): boolean {
    if (Atomics.load(this.#words, FAILED) !== 0) return false;
    return Atomics.compareExchange(this.#words, this.#stateOf(i), FREE, task) === FREE;
  }

  /** A lane's: y of a piece that it took is in place. */
  whole(i: number): void {
    Atomics.store(this.#words, this.#stateOf(i), WHOLE);
  }

  isWhole(i: number): boolean {
    return Atomics.load(this.#words, this.#stateOf(i)) === WHOLE;
  }

  isFree(i: number): boolean {
    return Atomics.load(this.#words, this.#stateOf(i)) === FREE;
  }

  /** The caller's, once task `task` will do no more: the pieces that it took and did not do are free again. */
  release(task: number): number[] {
    const released: number[] = [];
    for (let i = 0; i < this.handle.pieces; i++) {
      if (Atomics.compareExchange(this.#words, this.#stateOf(i), task, FREE) === task) released.push(i);
    }
    return released;
  }

  #stateOf(i: number): number {
    return HEAD + i * FIELDS + STATE;
  }
}

const FLOAT_BYTES = Float32Array.BYTES_PER_ELEMENT;

/** Copies to memory that threads share, or from it, twice as fast as `set`. */
export function copyValues(from: Float32Array, into: Float32Array): void {
  bytesIn(from).copy(bytesIn(into));
}

/** Bytes at which each part begins. */
function placesOf({ pieces, rows, sources, hidden, scaled }: SharedCallSizes) {
  const indexes = aligned((HEAD + pieces * FIELDS) * Int32Array.BYTES_PER_ELEMENT);
  const scales = aligned(indexes + rows * Int32Array.BYTES_PER_ELEMENT);
  const x = aligned(scales + (scaled ? rows : 0) * FLOAT_BYTES);
  const y = aligned(x + sources * hidden * FLOAT_BYTES);
  return { indexes, scales, x, y, end: y + rows * hidden * FLOAT_BYTES };
}

function aligned(bytes: number): number {
  return Math.ceil(bytes / ALIGN) * ALIGN;
}
