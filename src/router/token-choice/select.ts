import { type Matrix, row, zeros } from '../../tensor.js';
import { rowKey, uniform } from '../random.js';
import { DROP_REASONS, type RouterInput } from '../routing.js';
import type { Rows } from '../rows.js';
import type { GroupOptions, LaterOptions, ScoreOptions, SelectOptions } from './options.js';
import type { Scored } from './score.js';

/** What the second stage gives; `expert` and `reason` are [T * K]. */
export interface Chosen {
  /** -1 where a token has fewer than K choices. */
  readonly expert: Int32Array;
  /** Index in DROP_REASONS: 'later-choice' where the rule on later choices dropped one. */
  readonly reason: Uint8Array;
  /** [T, E] what experts were compared by, -infinity where the token may not go. */
  readonly ranking: Matrix;
}

const LATER_CHOICE = DROP_REASONS.indexOf('later-choice');

/** scores [T, E] -> the experts of each token, best first. Bad rows choose nothing. */
export function select(
  options: { select: SelectOptions; score: ScoreOptions; seed?: number },
  scored: Scored,
  input: RouterInput,
  rows: Rows,
): Chosen {
  const { k, groups, later, ties } = options.select;
  const T = scored.logits.rows;
  const ranking = rank(options.score, groups, scored, rows);
  const expert = new Int32Array(T * k).fill(-1);
  const reason = new Uint8Array(T * k);
  const rule = later?.rule ?? 'always';
  for (let t = 0; t < T; t++) {
    const values = row(ranking, t);
    if (groups) maskGroups(values, groups, ties);
    const chosen = expert.subarray(t * k, (t + 1) * k);
    topInto(values, ties, chosen);
    if (rule === 'always') continue;
    const draw = drawer(input, rows, t, options.seed);
    if (rule === 'sampled') sampleLater(row(scored.logits, t), values, chosen, draw);
    else dropLater(later!, row(scored.scores, t), chosen, draw, reason.subarray(t * k, (t + 1) * k));
  }
  return { expert, reason, ranking };
}

/**
 * What experts are compared by [T, E]: scores plus bias where either matters to the order; else the logits, whose
 * order is that of the scores without the ties that rounding makes of large logits.
 */
function rank(score: ScoreOptions, groups: GroupOptions | undefined, scored: Scored, rows: Rows): Matrix {
  const { logits, scores } = scored;
  const byScore = score.bias !== undefined || groups?.score === 'top2-sum';
  const ranking = zeros(logits.rows, logits.cols);
  for (let t = 0, i = 0; t < logits.rows; t++) {
    for (let e = 0; e < logits.cols; e++, i++) {
      const allowed = rows.bad[t] === 0 && logits.data[i] !== -Infinity;
      const value = byScore ? scores.data[i] + (score.bias?.[e] ?? 0) : logits.data[i];
      ranking.data[i] = allowed ? value : -Infinity;
    }
  }
  return ranking;
}

/** values [E] -> indices of the largest, best first, into `into`; -infinity is never taken, and -1 fills the rest. */
export function topInto(values: Float32Array, ties: SelectOptions['ties'], into: Int32Array): void {
  into.fill(-1);
  let count = 0;
  for (let i = 0; i < values.length; i++) {
    const e = ties === 'higher' ? values.length - 1 - i : i;
    const value = values[e];
    if (value === -Infinity || (count === into.length && value <= values[into[count - 1]])) continue;
    let place = count < into.length ? count++ : count - 1;
    for (; place > 0 && values[into[place - 1]] < value; place--) into[place] = into[place - 1];
    into[place] = e;
  }
}

/** Sets the ranking [E] of experts outside the best groups to -infinity. */
function maskGroups(values: Float32Array, groups: GroupOptions, ties: SelectOptions['ties']): void {
  const size = values.length / groups.count;
  const scores = new Float32Array(groups.count);
  for (let g = 0; g < groups.count; g++) {
    scores[g] = groupScore(values.subarray(g * size, (g + 1) * size), groups.score);
  }
  const kept = new Int32Array(groups.keep);
  topInto(scores, ties, kept);
  for (let g = 0; g < groups.count; g++) {
    if (!kept.includes(g)) values.fill(-Infinity, g * size, (g + 1) * size);
  }
}

/** The largest value, or the sum of the two largest; -infinity for a group without an allowed expert. */
function groupScore(values: Float32Array, by: GroupOptions['score']): number {
  let first = -Infinity;
  let second = -Infinity;
  for (const value of values) {
    if (value > first) {
      second = first;
      first = value;
    } else if (value > second) {
      second = value;
    }
  }
  return by === 'top2-sum' && second !== -Infinity ? first + second : first;
}

type Draw = (choice: number) => number;

/** The uniform number of each choice of token t: given, or keyed by the seed. */
function drawer(input: RouterInput, rows: Rows, t: number, seed = 0): Draw {
  const { uniforms } = input;
  if (uniforms) return (choice) => uniforms.data[t * uniforms.cols + choice];
  const key = rowKey({ seed, ...rows.source(t), use: 'choice' });
  return (choice) => uniform(key, choice);
}

/** GShard Algorithm 1 (probability 2g), Mesh TensorFlow's top_2 policy "random" (g / threshold), for every later choice. */
function dropLater(
  later: LaterOptions,
  scores: Float32Array,
  chosen: Int32Array,
  draw: Draw,
  reason: Uint8Array,
): void {
  let sum = 0;
  for (const e of chosen) if (e >= 0) sum += scores[e];
  const factor = later.rule === 'threshold' ? 1 / later.threshold : 2;
  for (let choice = 1; choice < chosen.length; choice++) {
    if (chosen[choice] < 0) break;
    const share = sum > 0 ? scores[chosen[choice]] / sum : 0;
    if (!(factor * share > draw(choice))) reason[choice] = LATER_CHOICE;
  }
}

/**
 * Replaces the later choices by samples without replacement, with probability softmax(logits) over what is left
 * (fairseq adds Gumbel noise and takes the largest: the same distribution, here by one uniform number).
 */
function sampleLater(logits: Float32Array, ranking: Float32Array, chosen: Int32Array, draw: Draw): void {
  const taken = new Uint8Array(logits.length);
  if (chosen[0] >= 0) taken[chosen[0]] = 1;
  for (let choice = 1; choice < chosen.length && chosen[choice] >= 0; choice++) {
    chosen[choice] = sampleOne(logits, (e) => taken[e] === 0 && ranking[e] !== -Infinity, draw(choice));
    taken[chosen[choice]] = 1;
  }
}

/** The first expert at which the running sum of exp(logit) over the open ones exceeds u times their total. */
function sampleOne(logits: Float32Array, open: (e: number) => boolean, u: number): number {
  let max = -Infinity;
  for (let e = 0; e < logits.length; e++) if (open(e) && logits[e] > max) max = logits[e];
  let total = 0;
  for (let e = 0; e < logits.length; e++) if (open(e)) total += Math.exp(logits[e] - max);
  let sum = 0;
  let last = -1;
  for (let e = 0; e < logits.length; e++) {
    if (!open(e)) continue;
    last = e;
    sum += Math.exp(logits[e] - max);
    if (sum > u * total) break;
  }
  return last;
}
