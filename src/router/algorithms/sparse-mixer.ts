import { type Static, Type } from 'typebox';
import { row } from '../../tensor.js';
import type { Choice } from '../finish.js';
import type { RouterInput } from '../routing.js';
import type { Rows } from '../rows.js';
import { AdmitOptions, RenormaliseOptions, record, Seed } from '../stage-options.js';
import { choiceOf, nowhere, scoreRows } from './choice.js';

export const SparseMixerOptions = record(
  {
    algorithm: Type.Literal('sparse-mixer'),
    k: Type.Integer({ minimum: 1, maximum: 2, description: 'Choices per token; the checkpoints have 2.' }),
    jitter: Type.Number({
      minimum: 0,
      description: 'Experts further than 2 * jitter below the best do not weigh.',
    }),
    admit: Type.Optional(AdmitOptions),
    renormalise: Type.Optional(RenormaliseOptions),
    seed: Type.Optional(Seed),
  },
  'One choice after the other, each weighed among its near rivals (SparseMixer).',
);
export type SparseMixerOptions = Static<typeof SparseMixerOptions>;

/**
 * SparseMixer-v2 as Phi-3.5-MoE runs it at inference (Liu et al. 2023, 2024; sparsemixer in modeling_phimoe.py): the best
 * expert, weighed by a softmax over the experts with (best - logit) / max(|logit|, best) <= 2 * jitter; then the same
 * without it. A choice that overflow moves takes its softmax score as weight.
 */
export function sparseMixer({ k, jitter }: SparseMixerOptions, input: RouterInput, rows: Rows): Choice {
  const { logits } = input;
  const { rows: T, cols: E } = logits;
  const expert = new Int32Array(T * k).fill(-1);
  const weight = new Float32Array(T * k);
  const ranking = nowhere(T, E);
  for (let t = 0; t < T; t++) {
    if (rows.bad[t] !== 0) continue;
    row(ranking, t).set(row(logits, t));
    const left = row(logits, t).slice();
    for (let c = 0; c < k; c++) {
      const best = argmax(left);
      if (left[best] === -Infinity) break;
      expert[t * k + c] = best;
      weight[t * k + c] = 1 / rivalMass(row(logits, t), left, best, jitter);
      left[best] = -Infinity;
    }
  }
  const scores = scoreRows('softmax', input, rows);
  const weighAgain = (of: Int32Array) =>
    Float32Array.from(of, (e, a) =>
      e < 0 ? 0 : e === expert[a] ? weight[a] : scores.data[Math.floor(a / k) * E + e],
    );
  return choiceOf({ input, rows, k }, { expert, scores, ranking, weighAgain });
}

/** Sum of exp(logit - best) over the experts that are left and near enough to the best of them. */
function rivalMass(logits: Float32Array, left: Float32Array, best: number, jitter: number): number {
  const top = left[best];
  let mass = 0;
  for (let e = 0; e < left.length; e++) {
    const distance = (top - logits[e]) / Math.max(Math.abs(logits[e]), top);
    if (!(distance > 2 * jitter)) mass += Math.exp(left[e] - top);
  }
  return mass;
}

function argmax(values: Float32Array): number {
  let best = 0;
  for (let e = 1; e < values.length; e++) if (values[e] > values[best]) best = e;
  return best;
}
