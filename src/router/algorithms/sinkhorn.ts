import { type Static, Type } from 'typebox';
import type { Choice } from '../finish.js';
import type { RouterInput } from '../routing.js';
import type { Rows } from '../rows.js';
import { AdmitOptions, Choices, record, WholeScope } from '../stage-options.js';
import { balancedAssignment } from './balanced-assignment.js';
import { choiceOf, nowhere, scoreRows, takeBest } from './choice.js';

export const SinkhornOptions = record(
  {
    algorithm: Type.Literal('sinkhorn'),
    k: Choices,
    assign: Type.Enum(['top-k', 'balanced'], {
      description:
        'top-k: the k best of the balanced matrix (S-BASE). balanced: the exact assignment with the largest sum of logits in which no expert has more than one token more than another (BASE); k = 1.',
    }),
    score: Type.Enum(['softmax', 'sigmoid'], {
      description: 'What weighs: of the logits themselves, never balanced.',
    }),
    iterations: Type.Optional(
      Type.Integer({
        minimum: 1,
        maximum: 10_000,
        description: 'Most rounds of balancing; 100 where left out.',
      }),
    ),
    tolerance: Type.Optional(
      Type.Number({
        minimum: 0,
        description: 'Balancing ends below this mean change of the column factors; 1e-4.',
      }),
    ),
    scope: Type.Optional(WholeScope),
    admit: Type.Optional(AdmitOptions),
  },
  'Tokens are spread evenly by an optimal-transport plan.',
);
export type SinkhornOptions = Static<typeof SinkhornOptions>;

/**
 * Sinkhorn routing (S-BASE, Clark et al. 2022, section 2.2; Megatron-Core's sinkhorn): rows and columns of exp(logits) are
 * scaled in turn until each token has the same mass and each expert too; each token takes its k best of that matrix and
 * is weighed by the score of its own logits. `balanced` is the linear assignment of BASE (Lewis et al. 2021, eq. 3).
 */
export function sinkhorn(options: SinkhornOptions, input: RouterInput, rows: Rows): Choice {
  const { k } = options;
  const { rows: T, cols: E } = input.logits;
  const scores = scoreRows(options.score, input, rows);
  const ranking = nowhere(T, E);
  const expert = new Int32Array(T * k).fill(-1);
  const groups = options.scope === 'call' ? [{ start: 0, length: T }] : rows.spans;
  for (const { start, length } of groups) {
    const good = Array.from({ length }, (_, i) => start + i).filter((t) => rows.bad[t] === 0);
    if (options.assign === 'balanced') {
      for (const t of good) ranking.data.set(input.logits.data.subarray(t * E, (t + 1) * E), t * E);
      balancedAssignment(input.logits, good).forEach((e, i) => {
        expert[good[i]] = e;
      });
      continue;
    }
    balance(options, input, good, ranking.data);
    for (const t of good) takeBest(ranking, t, k, expert);
  }
  const weighAgain = (of: Int32Array) =>
    Float32Array.from(of, (e, a) => (e < 0 ? 0 : scores.data[Math.floor(a / k) * E + e]));
  return choiceOf({ input, rows, k }, { expert, scores, ranking, weighAgain });
}

/** Writes the logarithms of the balanced matrix of the rows `good` into `into` [T * E]; -infinity stays. */
function balance(
  { iterations = 100, tolerance = 1e-4 }: SinkhornOptions,
  { logits }: RouterInput,
  good: readonly number[],
  into: Float32Array,
): void {
  const E = logits.cols;
  const cost = good.map((t) => {
    const own = logits.data.subarray(t * E, (t + 1) * E);
    const top = own.reduce((most, value) => Math.max(most, value), -Infinity);
    return Float64Array.from(own, (value) => Math.exp(value - top));
  });
  let columns = new Float64Array(E).fill(1);
  let rowFactors = new Float64Array(good.length);
  for (let i = 0; i < iterations; i++) {
    rowFactors = Float64Array.from(cost, (own) => 1 / (good.length * dot(own, columns)));
    const sums = new Float64Array(E);
    cost.forEach((own, r) => {
      for (let e = 0; e < E; e++) sums[e] += rowFactors[r] * own[e];
    });
    // A column that nobody may take has no mass to scale.
    const next = sums.map((sum) => (sum === 0 ? 1 : 1 / (E * sum)));
    const change = next.reduce((sum, value, e) => sum + Math.abs(value - columns[e]), 0) / E;
    columns = next;
    if (change < tolerance) break;
  }
  good.forEach((t, r) => {
    for (let e = 0; e < E; e++) into[t * E + e] = Math.log(rowFactors[r] * cost[r][e] * columns[e]);
  });
}

function dot(a: Float64Array, b: Float64Array): number {
  let sum = 0;
  for (let i = 0; i < a.length; i++) sum += a[i] * b[i];
  return sum;
}
