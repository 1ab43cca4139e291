import { type Matrix, matrix } from '../../src/tensor.js';
import { normals } from './experts.js';

export const LOADS = ['even', 'skewed'] as const;

/** One call: `even` loads follow random logits; `skewed` ones send about half of all tokens to the first expert. */
export interface Case {
  readonly tokens: number;
  readonly load: (typeof LOADS)[number];
  /** [T, H] */
  readonly x: Matrix;
  /** [T, E] */
  readonly logits: Matrix;
}

/** The same call for the same arguments. */
export function makeCase(
  { hidden, experts }: { readonly hidden: number; readonly experts: number },
  tokens: number,
  load: Case['load'],
): Case {
  const random = normals(tokens);
  const draw = (cols: number) => matrix(Float32Array.from({ length: tokens * cols }, random), tokens, cols);
  const [x, logits] = [draw(hidden), draw(experts)];
  // Above the largest of the other logits for about every second token.
  if (load === 'skewed') for (let t = 0; t < tokens; t++) logits.data[t * experts]! += 1.75;
  return { tokens, load, x, logits };
}

/** Throws where two results differ by more than `tolerance`; by a bit where it is 0. */
export function agree(what: string, got: Float32Array, expected: Float32Array, tolerance: number): void {
  if (got.length !== expected.length) throw new Error(`${what}: ${got.length} and ${expected.length} values`);
  for (const [i, value] of expected.entries()) {
    if (!(Math.abs(got[i]! - value) <= tolerance))
      throw new Error(`${what} differ: ${got[i]} and ${value} at ${i}`);
  }
}
