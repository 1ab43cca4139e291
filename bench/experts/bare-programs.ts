import type { ExpertBackend, ExpertBatch } from '../../src/experts/backend.js';
import { everywhere, spread } from '../../src/experts/placement.js';
import { planDispatch } from '../../src/router/plan.js';
import type { Router } from '../../src/router/routing.js';
import { copyRows } from '../../src/tensor.js';
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
  return Array.from({ length: plan.experts }, (_, expert) => {
    const rows = plan.tokenIds.subarray(plan.offsets[expert], plan.offsets[expert + 1]);
    return { expert, x, rows };
  }).filter(({ rows }) => rows.length > 0);
}

/** The expert calls of a layer call, with the rows that they take, for the bare lanes. */
export function programOf(
  order: Order,
  batches: readonly ExpertBatch[],
  { hidden, experts }: Pick<ExpertBackend, 'hidden' | 'experts'>,
): BareProgram {
  const all = batches.map((batch) => {
    const x = new Float32Array(batch.rows.length * hidden);
    copyRows(batch, x, 0);
    return { expert: batch.expert, x };
  });
  const queue = all.map((_, i) => i);
  if (order === 'plan') return { calls: all, queues: [queue] };
  if (order === 'longest')
    return { calls: all, queues: [queue.sort((a, b) => batches[b]!.rows.length - batches[a]!.rows.length)] };
  const counts = batches.map(({ expert, rows }) => ({ expert, rows: rows.length }));
  const lanes = spread(counts, everywhere(experts, LANES));
  const calls = lanes.flat().map(({ batch, start, rows }) => {
    const { expert, x } = all[batch]!;
    return { expert, x: x.slice(start * hidden, (start + rows) * hidden) };
  });
  let next = 0;
  return { calls, queues: lanes.map((pieces) => pieces.map(() => next++)) };
}
