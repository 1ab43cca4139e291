import { TurnoutError } from '../../errors.js';
import { type Matrix, row, zeros } from '../../tensor.js';
import { lazyMatrix } from '../lazy.js';
import { normal, rowKey } from '../random.js';
import type { RouterInput } from '../routing.js';
import type { Rows } from '../rows.js';
import { pickScores } from '../scores.js';
import type { ScoreOptions } from './options.js';

/** What the first stage gives. */
export interface Scored {
  /** [T, E] logits with noise; -infinity where the token may not go. */
  readonly logits: Matrix;
  /** [T, E] scores that weights come from, computed when they are first read. */
  readonly scores: Matrix;
  /** Experts [T * K] (-1: no choice) -> their scores, 0 where there is no choice; computes no others. */
  scoresOf(expert: Int32Array, choices: number): Float32Array;
}

/**
 * logits [E] -> probabilities [E], in float64 until stored. -infinity gets 0.
 * A row of only -infinity gets zeros (it is a bad row, and nothing is chosen from it).
 */
export function softmax(logits: Float32Array, into: Float32Array): void {
  const { max, sum } = massOf(logits, 0, logits.length);
  if (max === -Infinity) {
    into.fill(0);
    return;
  }
  for (let e = 0; e < logits.length; e++) into[e] = Math.exp(logits[e] - max) / sum;
}

/** ln(1 + e^x), exact for large x. */
export function softplus(x: number): number {
  return Math.max(x, 0) + Math.log1p(Math.exp(-Math.abs(x)));
}

/** Scores that depend on no other expert. */
const FUNCTIONS: Record<Exclude<ScoreOptions['function'], 'softmax'>, (logit: number) => number> = {
  sigmoid: (x) => 1 / (1 + Math.exp(-x)),
  'sqrt-softplus': (x) => (x === -Infinity ? 0 : Math.sqrt(softplus(x))),
  identity: (x) => x,
};

/** logits [T, E] -> scores [T, E]. Bad rows score 0 everywhere. */
export function score(options: ScoreOptions, input: RouterInput, rows: Rows, seed?: number): Scored {
  const noise = noiseOf(options, input, rows, seed);
  const logits = noise ? plus(input.logits, noise.added) : input.logits;
  const scores = lazyMatrix(logits.rows, logits.cols, () => scoreAll(options.function, logits, rows));
  // A bias chooses by the scores of all experts, so they are known.
  const known = options.bias !== undefined;
  return {
    logits,
    scores,
    scoresOf: (expert, choices) =>
      known ? pickScores(scores, expert, choices) : scoreChoices(options.function, logits, expert, choices),
  };
}

function scoreAll(kind: ScoreOptions['function'], logits: Matrix, rows: Rows): Float32Array {
  const scores = zeros(logits.rows, logits.cols);
  for (let t = 0; t < logits.rows; t++) {
    if (rows.bad[t] !== 0) continue;
    if (kind === 'softmax') softmax(row(logits, t), row(scores, t));
    else scoreRow(FUNCTIONS[kind], row(logits, t), row(scores, t));
  }
  return scores.data;
}

function scoreRow(f: (logit: number) => number, logits: Float32Array, into: Float32Array): void {
  for (let e = 0; e < logits.length; e++) into[e] = f(logits[e]);
}

/** The scores [T * K] of `expert`, the same as `scoreAll` has. */
function scoreChoices(
  kind: ScoreOptions['function'],
  logits: Matrix,
  expert: Int32Array,
  choices: number,
): Float32Array {
  const scores = pickScores(logits, expert, choices);
  for (let start = 0, t = 0; start < expert.length; start += choices, t++) {
    const end = start + choices;
    if (kind === 'softmax') {
      const { max, sum } = massOf(logits.data, t * logits.cols, (t + 1) * logits.cols);
      for (let a = start; a < end; a++) if (expert[a] >= 0) scores[a] = Math.exp(scores[a] - max) / sum;
    } else {
      const f = FUNCTIONS[kind];
      for (let a = start; a < end; a++) if (expert[a] >= 0) scores[a] = f(scores[a]);
    }
  }
  return scores;
}

/** The largest logit from `start` to `end`, and the sum of exp(logit - max). */
function massOf(data: Float32Array, start: number, end: number): { max: number; sum: number } {
  let max = -Infinity;
  for (let i = start; i < end; i++) if (data[i] > max) max = data[i];
  let sum = 0;
  for (let i = start; i < end; i++) sum += Math.exp(data[i] - max);
  return { max, sum };
}

function plus(a: Matrix, b: Matrix): Matrix {
  return { ...a, data: a.data.map((value, i) => value + b.data[i]) };
}

/** What is added to the logits [T, E], and its standard deviation: one number, or [T, E]. */
export interface Noise {
  readonly added: Matrix;
  readonly deviation: number | Matrix;
}

/**
 * Shazeer et al. 2017, eq. 4: N(0,1) * softplus(noiseScale); V-MoE: N(0,1) * scale / E. Nothing without given noise or
 * a seed: noise belongs to training. Throws TURNOUT_INPUT_INVALID for given noise whose scale is missing.
 */
export function noiseOf(
  options: ScoreOptions,
  input: RouterInput,
  rows: Rows,
  seed?: number,
): Noise | undefined {
  const { logits, noise } = input;
  const rule = options.noise;
  if (!rule || (!noise && seed === undefined)) return undefined;
  const deviation = rule.kind === 'learned' ? learnedDeviation(input) : rule.scale / logits.cols;
  if (deviation === undefined) return undefined;
  const added = zeros(logits.rows, logits.cols);
  for (let t = 0, i = 0; t < logits.rows; t++) {
    const key = rowKey({ seed: seed ?? 0, ...rows.source(t), use: 'noise' });
    for (let e = 0; e < logits.cols; e++, i++) {
      const scale = typeof deviation === 'number' ? deviation : deviation.data[i];
      added.data[i] = scale * (noise ? noise.data[i] : normal(key, e));
    }
  }
  return { added, deviation };
}

/** A noisy gate that gives no scale is one at evaluation; noise without its scale is a mistake. */
function learnedDeviation({ noise, noiseScale }: RouterInput): Matrix | undefined {
  if (noiseScale) return { ...noiseScale, data: noiseScale.data.map(softplus) };
  if (!noise) return undefined;
  throw new TurnoutError('TURNOUT_INPUT_INVALID', 'noise: expected noiseScale [T, E] beside it, got none', {
    noise: [noise.rows, noise.cols],
  });
}
