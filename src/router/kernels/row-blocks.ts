import type { Matrix } from '../../tensor.js';

/** Floats of a matrix that are worked on at a time: what the first levels of a cache hold. */
const BLOCK = 16 * 1024;

/** Rows of a block, at least 1. */
export function rowsPerBlock(stride: number): number {
  return Math.max(1, Math.floor(BLOCK / Math.max(1, stride)));
}

/** Floats from one row to the next in the memory of a kernel: whole vectors. */
export function strideOf(cols: number): number {
  return 4 * Math.ceil(cols / 4);
}

/** Writes rows `start` to `end` of `m` to the start of `into`, each filled up to whole vectors with -infinity. */
export function copyRows(m: Matrix, start: number, end: number, into: Float32Array): void {
  const { cols, data } = m;
  const stride = strideOf(cols);
  if (stride === cols) {
    into.set(start === 0 && end === m.rows ? data : data.subarray(start * cols, end * cols));
    return;
  }
  for (let r = start, at = 0; r < end; r++, at += stride) {
    for (let c = 0; c < cols; c++) into[at + c] = data[r * cols + c]!;
    into.fill(-Infinity, at + cols, at + stride);
  }
}
