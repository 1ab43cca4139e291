import { type Matrix, row, zeros } from '../../tensor.js';
import { topColumns } from '../kernels/top-k.js';
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
  /** [T, E] what experts were compared by, -infinity where the token may not go; bad rows have no meaning. */
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
  const ranking = rank(options.score, groups, scored);
  if (groups) maskGroups(ranking, groups, ties);
  const expert = topColumns(ranking, k, ties);
  for (const bad of rows.badRows) expert.fill(-1, bad.row * k, (bad.row + 1) * k);
  const reason = new Uint8Array(expert.length);
  if (later && later.rule !== 'always') {
    const scores = later.rule === 'sampled' ? undefined : scored.scoresOf(expert, k);
    for (let t = 0; t < ranking.rows; t++) {
      const [from, to] = [t * k, (t + 1) * k];
      const chosen = expert.subarray(from, to);
      const draw = drawer(input, rows, t, options.seed);
      if (later.rule === 'sampled') sampleLater(row(scored.logits, t), row(ranking, t), chosen, draw);
      else dropLater(later, scores!.subarray(from, to), chosen, draw, reason.subarray(from, to));
    }
  }
  return { expert, reason, ranking };
}

/**
 * What experts are compared by [T, E]: scores plus bias where either matters to the order; else the logits, whose
 * order is that of the scores without the ties that rounding makes of large logits. A copy where groups will mask it.
 */
function rank(score: ScoreOptions, groups: GroupOptions | undefined, { logits, scores }: Scored): Matrix {
  if (!score.bias && groups?.score !== 'top2-sum') {
    return groups ? { ...logits, data: logits.data.slice() } : logits;
  }
  const bias = score.bias ?? new Array<number>(logits.cols).fill(0);
  const ranking = zeros(logits.rows, logits.cols);
  const { data } = scores;
  for (let t = 0, i = 0; t < logits.rows; t++) {
    for (let e = 0; e < logits.cols; e++, i++) {
      ranking.data[i] = logits.data[i] === -Infinity ? -Infinity : data[i] + bias[e];
    }
  }
  return ranking;
}

/** Sets the ranking [T, E] of experts outside the best groups of their token to -infinity. */
function maskGroups(ranking: Matrix, groups: GroupOptions, ties: SelectOptions['ties']): void {
  const { count, keep } = groups;
  const size = ranking.cols / count;
  const best = topColumns(groupScores(ranking, groups), keep, ties);
  const kept = new Uint8Array(count);
  for (let t = 0; t < ranking.rows; t++) {
    kept.fill(0);
    for (let c = t * keep; c < (t + 1) * keep; c++) if (best[c] >= 0) kept[best[c]] = 1;
    for (let g = 0; g < count; g++) {
      const start = t * ranking.cols + g * size;
      if (kept[g] === 0) ranking.data.fill(-Infinity, start, start + size);
    }
  }
}

/** [T, groups] the largest value, or the sum of the two largest; -infinity for a group without an allowed expert. */
function groupScores({ rows, cols, data }: Matrix, { count, score }: GroupOptions): Matrix {
  const scores = zeros(rows, count);
  const size = cols / count;
  for (let g = 0; g < scores.data.length; g++) {
    let first = -Infinity;
    let second = -Infinity;
    for (let i = g * size; i < (g + 1) * size; i++) {
      const value = data[i];
      if (value > first) {
        second = first;
        first = value;
      } else if (value > second) second = value;
    }
    scores.data[g] = score === 'top2-sum' && second !== -Infinity ? first + second : first;
  }
  return scores;
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
  for (const score of scores) sum += score;
  const factor = later.rule === 'threshold' ? 1 / later.threshold : 2;
  for (let choice = 1; choice < chosen.length; choice++) {
    if (chosen[choice] < 0) break;
    const share = sum > 0 ? scores[choice] / sum : 0;
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
