import type { Matrix } from '../tensor.js';
import type { DispatchPlan } from './routing.js';

/**
 * Writes the rows of `expert` into `into` from element `offset` on, in plan order: x [T,H] -> [n,H].
 * A plan with weights on the input (Llama 4) scales each row by its weight.
 */
export function gatherRows(
  plan: DispatchPlan,
  expert: number,
  x: Matrix,
  into: Float32Array,
  offset: number,
): void {
  const { cols } = x;
  let at = offset;
  for (let a = plan.offsets[expert]!; a < plan.offsets[expert + 1]!; a++, at += cols) {
    const from = plan.tokenIds[a]! * cols;
    into.set(x.data.subarray(from, from + cols), at);
    if (plan.weightsOn === 'input') scale(into, at, cols, plan.weights[a]!);
  }
}

function scale(values: Float32Array, from: number, length: number, factor: number): void {
  for (let i = from; i < from + length; i++) values[i] = values[i]! * factor;
}
