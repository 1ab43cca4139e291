import type { Matrix } from '../tensor.js';

/** A value that is computed when it is first asked for, and kept. */
export function once<T>(compute: () => T): () => T {
  let known: { readonly value: T } | undefined;
  return () => {
    known ??= { value: compute() };
    return known.value;
  };
}

/** A matrix [rows, cols] whose data are computed when they are first read. Copies of it (`structuredClone`, spreading) have the data. */
export function lazyMatrix(rows: number, cols: number, compute: () => Float32Array): Matrix {
  const data = once(compute);
  return {
    rows,
    cols,
    get data() {
      return data();
    },
  };
}
