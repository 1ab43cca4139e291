import { type Matrix, zeros } from '../tensor.js';
import { WeightedRows } from './kernels/weighted-rows.js';
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
  const sums = new WeightedRows([...outputs, ...shared], hidden, rowsPerToken(plan, shared.length));
  const parts = { plan, outputs, shared };
  let from = plan.offsets.subarray(0, plan.experts);
  for (let start = 0; start < plan.tokens; start += sums.sumsAtATime) {
    const end = Math.min(start + sums.sumsAtATime, plan.tokens);
    const to = end === plan.tokens ? plan.offsets.subarray(1) : rowsBefore(plan, from, end);
    sums.begin(start, end);
    addBlock(sums, parts, { start, end, from, to });
    sums.sumInto(y.data, start * hidden);
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

/** [T] rows that are added up for each token. */
function rowsPerToken({ tokens, tokenIds }: DispatchPlan, shared: number): Int32Array {
  const counts = new Int32Array(tokens).fill(shared);
  for (let a = 0; a < tokenIds.length; a++) counts[tokenIds[a]]++;
  return counts;
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

function addBlock(
  sums: WeightedRows,
  { plan, outputs, shared }: Parts,
  { start, end, from, to }: Block,
): void {
  const { experts, offsets, tokenIds, weights, weightsOn } = plan;
  const { bytesPerRow } = sums;
  for (let e = 0; e < experts; e++) {
    if (from[e] === to[e]) continue;
    let address = sums.rows(outputs[e], from[e] - offsets[e], to[e] - from[e]);
    for (let a = from[e]; a < to[e]; a++, address += bytesPerRow) {
      sums.add(tokenIds[a] - start, address, weightsOn === 'input' ? 1 : weights[a]);
    }
  }
  for (const output of shared) {
    let address = sums.rows(output, start, end - start);
    for (let s = 0; s < end - start; s++, address += bytesPerRow) sums.add(s, address, 1);
  }
}
