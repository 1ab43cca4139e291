import { type Matrix, zeros } from '../tensor.js';
import { BLOCK, WeightedRows } from './kernels/weighted-rows.js';
import type { DispatchPlan } from './routing.js';

/**
 * y[t] = sum over the kept assignments of t of weight * output: `outputs` has for each expert the results of its rows
 * [n,H] in plan order (empty where it had none) -> [T,H]. Then the outputs [T,H] of `shared` experts are added.
 * Float32 products and sums in plan order, whichever lane answered first, so every backend gives the same bits.
 * Weights on the input are in the rows already. All of y is written over.
 */
export function combine(
  plan: DispatchPlan,
  outputs: readonly Float32Array[],
  hidden: number,
  { shared = [], into: y = zeros(plan.tokens, hidden) }: CombineOptions = {},
): Matrix {
  const rowsPerToken = plan.tokenIds.length / plan.tokens + shared.length + 1;
  const tokens = Math.max(1, Math.floor(BLOCK / (hidden * rowsPerToken)));
  let from = plan.offsets.subarray(0, plan.experts);
  for (let start = 0; start < plan.tokens; start += tokens) {
    const end = Math.min(start + tokens, plan.tokens);
    const to = end === plan.tokens ? plan.offsets.subarray(1) : rowsBefore(plan, from, end);
    combineBlock({ plan, outputs, shared }, { start, end, from, to }, y);
    from = to;
  }
  return y;
}

export interface CombineOptions {
  /** Outputs [T,H] of experts that take every token with weight 1. */
  readonly shared?: readonly Float32Array[];
  /** [T,H] to write y into, instead of a new matrix. */
  readonly into?: Matrix;
}

/** For each expert its first row, from `from` on, whose token is not before `end`: rows of an expert are in token order. */
function rowsBefore({ experts, offsets, tokenIds }: DispatchPlan, from: Int32Array, end: number): Int32Array {
  const to = from.slice();
  for (let e = 0; e < experts; e++) {
    while (to[e] < offsets[e + 1] && tokenIds[to[e]] < end) to[e]++;
  }
  return to;
}

interface Parts {
  readonly plan: DispatchPlan;
  readonly outputs: readonly Float32Array[];
  readonly shared: readonly Float32Array[];
}

/** Tokens that are summed together: `start` to `end`, with rows `from[e]` to `to[e]` of the plan for expert e. */
interface Block {
  readonly start: number;
  readonly end: number;
  readonly from: Int32Array;
  readonly to: Int32Array;
}

function combineBlock({ plan, outputs, shared }: Parts, { start, end, from, to }: Block, y: Matrix): void {
  const { experts, offsets, tokenIds, weights, weightsOn } = plan;
  let count = shared.length * (end - start);
  for (let e = 0; e < experts; e++) count += to[e] - from[e];
  const sums = new WeightedRows(end - start, count, y.cols);
  for (let e = 0; e < experts; e++) {
    if (from[e] === to[e]) continue;
    sums.rows(outputs[e], from[e] - offsets[e], to[e] - from[e]);
    for (let a = from[e]; a < to[e]; a++) {
      sums.target(tokenIds[a] - start, weightsOn === 'input' ? 1 : weights[a]);
    }
  }
  for (const output of shared) {
    sums.rows(output, start, end - start);
    for (let s = 0; s < end - start; s++) sums.target(s, 1);
  }
  sums.sumInto(y.data, start * y.cols);
}
