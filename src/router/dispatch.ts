import { copyRows, type Matrix } from '../tensor.js';
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
  const [first, end] = [plan.offsets[expert]!, plan.offsets[expert + 1]!];
  const rows = plan.tokenIds.subarray(first, end);
  const scales = plan.weightsOn === 'input' ? plan.weights.subarray(first, end) : undefined;
  copyRows({ x, rows, scales }, into, offset);
}
