import { TurnoutError } from './errors.js';

/** Row-major float32 [rows, cols]; `data.length === rows * cols`. */
export interface Matrix {
  readonly rows: number;
  readonly cols: number;
  readonly data: Float32Array;
}

/** data [rows * cols] -> Matrix [rows, cols], sharing `data`. Throws TURNOUT_SHAPE_MISMATCH where the length differs. */
export function matrix(data: Float32Array, rows: number, cols: number): Matrix {
  if (data.length !== rows * cols) {
    throw new TurnoutError(
      'TURNOUT_SHAPE_MISMATCH',
      `expected ${rows * cols} values for [${rows}, ${cols}], got ${data.length}`,
      { rows, cols, length: data.length },
    );
  }
  return { rows, cols, data };
}

/** A matrix of zeros [rows, cols]. */
export function zeros(rows: number, cols: number): Matrix {
  return { rows, cols, data: new Float32Array(rows * cols) };
}

/** Row `r` of `m` as a view [cols]. */
export function row(m: Matrix, r: number): Float32Array {
  return m.data.subarray(r * m.cols, (r + 1) * m.cols);
}

/** Rows of a matrix by their numbers. */
export interface RowChoice {
  readonly x: Matrix;
  /** [n] */
  readonly rows: Int32Array;
  /** [n] by what each row is multiplied; by nothing where left out. */
  readonly scales?: Float32Array | undefined;
}

/** Writes the chosen rows [n, cols] into `into` from element `offset` on. */
export function copyRows({ x, rows, scales }: RowChoice, into: Float32Array, offset: number): void {
  const { cols, data } = x;
  for (let i = 0, at = offset; i < rows.length; i++, at += cols) {
    const from = rows[i]! * cols;
    into.set(data.subarray(from, from + cols), at);
    if (scales) scale(into, at, cols, scales[i]!);
  }
}

function scale(values: Float32Array, from: number, length: number, factor: number): void {
  for (let i = from; i < from + length; i++) values[i] = values[i]! * factor;
}

/** The same memory as bytes. */
export function bytesIn({ buffer, byteOffset, byteLength }: Float32Array): Buffer {
  return Buffer.from(buffer, byteOffset, byteLength);
}
