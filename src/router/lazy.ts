import type { Matrix } from '../tensor.js';

/** A value that is computed when it is first asked for, and kept. */
export function once<T>(compute: () => T): () => T {
  let known: { readonly value: T } | undefined;
  return () => {
    known ??= { value: compute() };
    return known.value;
  };
}

/**
 * What gives objects the property `key`, computed when it is first read. It is their own, so copies of them have its value
 * (`structuredClone`, spreading, JSON). All share one getter: with getters of their own each would be an object of a shape
 * of its own, which takes ten times as long to make.
 */
export function lazyProperty<K extends string, V>(key: K) {
  const value = Symbol(key);
  const property = {
    get(this: { readonly [value]: () => V }) {
      return this[value]();
    },
    enumerable: true,
    configurable: true,
  };
  return <T extends object>(target: T, compute: () => V): T & { readonly [name in K]: V } => {
    Object.defineProperty(target, value, { value: once(compute) });
    return Object.defineProperty(target, key, property) as T & { readonly [name in K]: V };
  };
}

const withData = lazyProperty<'data', Float32Array>('data');

/** A matrix [rows, cols] whose data are computed when they are first read. */
export function lazyMatrix(rows: number, cols: number, compute: () => Float32Array): Matrix {
  return withData({ rows, cols }, compute);
}
