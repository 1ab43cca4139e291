import type { ExpertBackend, ExpertBatch } from '../../src/experts/backend.js';
import { everywhere, spread } from '../../src/experts/placement.js';
import { gatherRows } from '../../src/router/dispatch.js';
import { planDispatch } from '../../src/router/plan.js';
import type { Router } from '../../src/router/routing.js';
import type { BareProgram } from '../peers/bare-experts.js';
import type { Case } from '../support/cases.js';
import { TWO_CORES } from './settings.js';

export const LANES = TWO_CORES.length;

/**
 * How the bare lanes share the calls: both take the next one from the batches in plan order, or longest first; or
 * batches are split beforehand as the backends split them, which makes more calls.
 */
export const ORDERS = ['plan', 'longest', 'split'] as const;
export type Order = (typeof ORDERS)[number];

/** One batch for each expert that has rows, as a layer makes them. */
export function batchesOf({ x, logits }: Pick<Case, 'x' | 'logits'>, router: Router): ExpertBatch[] {
  const plan = planDispatch(router.route({ logits }));
  const rows = (e: number) => plan.offsets[e + 1]! - plan.offsets[e]!;
  return Array.from({ length: plan.experts }, (_, e) => e)
    .filter((e) => rows(e) > 0)
    .map((e) => ({
      expert: e,
      rows: rows(e),
      gather: (into: Float32Array, offset: number) => gatherRows(plan, e, x, into, offset),
    }));
}

/** The expert calls of a layer call, with the rows that they take, for the bare lanes. */
export function programOf(
  order: Order,
  batches: readonly ExpertBatch[],
  { hidden, experts }: Pick<ExpertBackend, 'hidden' | 'experts'>,
): BareProgram {
  const all = batches.map(({ expert, rows, gather }) => {
    const x = new Float32Array(rows * hidden);
    gather(x, 0);
    return { expert, x };
  });
  const queue = all.map((_, i) => i);
  if (order === 'plan') return { calls: all, queues: [queue] };
  if (order === 'longest')
    return { calls: all, queues: [queue.sort((a, b) => batches[b]!.rows - batches[a]!.rows)] };
  const lanes = spread(batches, everywhere(experts, LANES));
  const calls = lanes.flat().map(({ batch, start, rows }) => {
    const { expert, x } = all[batch]!;
    return { expert, x: x.slice(start * hidden, (start + rows) * hidden) };
  });
  let next = 0;
  return { calls, queues: lanes.map((pieces) => pieces.map(() => next++)) };
}
