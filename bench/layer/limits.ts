import type { ExpertBatch } from '../../src/experts/backend.js';
import { openGate } from '../../src/gate.js';
import { combine } from '../../src/router/combine.js';
import { planDispatch } from '../../src/router/plan.js';
import { type Matrix, zeros } from '../../src/tensor.js';
import { batchesOf, programOf } from '../experts/bare-programs.js';
import type { BareExperts, MovedCall } from '../peers/bare-experts.js';
import type { Contender } from '../support/measure.js';
import { expertBytes } from '../support/weights.js';
import { bandwidthOf, type Machine, peakOf } from './machine.js';
import { rowFlops } from './shapes.js';
import type { LayerCase, LayerSource } from './source.js';

/** What a call asks of the experts. */
export interface Work {
  /** Of each expert that has any, most first. */
  readonly rows: readonly number[];
  readonly flops: number;
  /** Of the weights that are read, once each, and of the rows in and out. */
  readonly bytes: number;
}

export function workOf({ shape, router }: LayerSource, { logits }: LayerCase): Work {
  const { offsets } = planDispatch(router.route({ logits }));
  const counts = Array.from({ length: shape.experts }, (_, e) => offsets[e + 1]! - offsets[e]!);
  const rows = counts.filter((count) => count > 0).sort((a, b) => b - a);
  const all = rows.reduce((sum, count) => sum + count, 0);
  const weights = rows.length * expertBytes(shape);
  return { rows, flops: all * rowFlops(shape), bytes: weights + 2 * 4 * all * shape.hidden };
}

/** The least time of a call on this machine, by what bounds it. */
export interface Floor {
  readonly ms: number;
  readonly bound: 'memory' | 'compute';
}

/**
 * The longer of reading all bytes at the measured bandwidth and of all operations at the measured peak, on `lanes` cores.
 * Weights that fit into the last cache need not be read from memory each time: then operations alone count.
 */
export function floorOf({ flops, bytes }: Work, machine: Machine, lanes: 'one' | 'all'): Floor {
  const computeMs = flops / peakOf(machine, lanes) / 1e6;
  const memoryMs = bytes > machine.cacheBytes ? bytes / bandwidthOf(machine, lanes) / 1e6 : 0;
  return memoryMs > computeMs ? { ms: memoryMs, bound: 'memory' } : { ms: computeMs, bound: 'compute' };
}

/** Names of the limit's runs: all lanes in both orders, and one lane alone; and of those of the least layer. */
export const LIMITS = {
  plan: 'limit plan',
  longest: 'limit longest',
  one: 'limit one lane',
  leastPlan: 'least plan',
  leastLongest: 'least longest',
} as const;

/** What bounds one layer call on these lanes. */
export interface Limits {
  /** The expert calls, with nothing around them: the lanes have the rows before, and throw outputs away. */
  readonly runs: readonly Contender[];
  /**
   * The least layer: the gate, lanes that gather the rows of the same calls and give the outputs back, and their sum.
   * What was chosen is known before, and the calling thread sleeps until the lanes are done. Gives y [T, H].
   */
  readonly least: readonly { readonly name: string; run(): Promise<Float32Array> }[];
  close(): Promise<void>;
}

/** The least layer is left out where the rule is not that of the fused operators. */
export async function openLimits(
  bare: BareExperts,
  { router, shape, set, gates }: LayerSource,
  call: LayerCase,
  lanes: number,
): Promise<Limits> {
  const batches = batchesOf(call, router);
  const sizes = { hidden: shape.hidden, experts: shape.experts };
  const [plan, longest] = [programOf('plan', batches, sizes), programOf('longest', batches, sizes)];
  const idle = Array.from({ length: lanes - 1 }, () => []);
  const ready = [plan, longest, { ...plan, queues: [...plan.queues, ...idle] }];
  const { calls, outputs } = movedCalls(batches, call.x);
  const moved = set ? [plan, longest].map(({ queues }) => ({ calls, queues })) : [];
  bare.load([...ready, ...moved]);
  const gate = await openGate(gates[call.load].path, shape.hidden, shape.experts);
  const dispatch = planDispatch(router.route({ logits: call.logits }));
  const byExpert = Array.from({ length: shape.experts }, (_, expert) => {
    const at = batches.findIndex((batch) => batch.expert === expert);
    return outputs[at] ?? new Float32Array(0);
  });
  const into = zeros(call.tokens, shape.hidden);
  const names = [LIMITS.plan, LIMITS.longest, LIMITS.one];
  const leastNames = [LIMITS.leastPlan, LIMITS.leastLongest].slice(0, moved.length);
  return {
    runs: names.map((name, i) => ({ name, run: async () => bare.run(i) })),
    least: leastNames.map((name, i) => ({
      name,
      run: async () => {
        await gate.score(call.x);
        bare.run(ready.length + i);
        return combine(dispatch, byExpert, shape.hidden, { into }).data;
      },
    })),
    close: () => gate.close(),
  };
}

/** Calls that take their rows from shared memory, and where their outputs go. */
function movedCalls(batches: readonly ExpertBatch[], { rows, cols, data }: Matrix) {
  const shared = (values: number) => new Float32Array(new SharedArrayBuffer(4 * values));
  const from: Matrix = { rows, cols, data: shared(data.length) };
  from.data.set(data);
  const y = shared(batches.reduce((sum, batch) => sum + batch.rows.length, 0) * cols);
  let next = 0;
  const calls: MovedCall[] = batches.map(({ expert, rows }) => {
    const first = next;
    next += rows.length * cols;
    return { expert, from, rows, y: y.subarray(first, next) };
  });
  return { calls, outputs: calls.map((call) => call.y) };
}
