import { type Matrix, zeros } from '../tensor.js';
import type { DispatchPlan } from './routing.js';

/**
 * y[t] = sum over the kept assignments of t of weight * output: `outputs` has for each expert the results of its rows
 * [n,H] in plan order (empty where it had none) -> [T,H]. Adds in plan order whichever lane answered first, so every
 * backend gives the same bits. Weights on the input are in the rows already.
 */
export function combine(plan: DispatchPlan, outputs: readonly Float32Array[], hidden: number): Matrix {
  const y = zeros(plan.tokens, hidden);
  const { data } = y;
  for (let e = 0; e < plan.experts; e++) {
    const output = outputs[e]!;
    const first = plan.offsets[e]!;
    for (let a = first; a < plan.offsets[e + 1]!; a++) {
      const weight = plan.weightsOn === 'input' ? 1 : plan.weights[a]!;
      const to = plan.tokenIds[a]! * hidden;
      const from = (a - first) * hidden;
      for (let h = 0; h < hidden; h++) data[to + h] = data[to + h]! + weight * output[from + h]!;
    }
  }
  return y;
}
