import { planDispatch } from '../../src/router/plan.js';
import { batchesOf, programOf } from '../experts/bare-programs.js';
import type { BareExperts } from '../peers/bare-experts.js';
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

/** Names of the limit's runs: all lanes in both orders, and one lane alone. */
export const LIMITS = { plan: 'limit plan', longest: 'limit longest', one: 'limit one lane' } as const;

/** The expert calls of the layer call, with nothing around them: the lanes have the rows before, and throw outputs away. */
export function limitRuns(
  bare: BareExperts,
  source: LayerSource,
  call: LayerCase,
  lanes: number,
): Contender[] {
  const batches = batchesOf(call, source.router);
  const sizes = { hidden: source.shape.hidden, experts: source.shape.experts };
  const [plan, longest] = [programOf('plan', batches, sizes), programOf('longest', batches, sizes)];
  const idle = Array.from({ length: lanes - 1 }, () => []);
  bare.load([plan, longest, { ...plan, queues: [...plan.queues, ...idle] }]);
  return Object.values(LIMITS).map((name, i) => ({ name, run: async () => bare.run(i) }));
}
