import { TurnoutError } from '../../errors.js';
import { type Matrix, row, zeros } from '../../tensor.js';
import { normal, rowKey } from '../random.js';
import type { RouterInput } from '../routing.js';
import type { Rows } from '../rows.js';
import type { ScoreOptions } from './options.js';

/** What the first stage gives: all [T, E]. */
export interface Scored {
  /** Logits with noise; -infinity where the token may not go. */
  readonly logits: Matrix;
  /** Scores that weights come from. */
  readonly scores: Matrix;
}

type RowFunction = (logits: Float32Array, into: Float32Array) => void;

/**
 * logits [E] -> probabilities [E], in float64 until stored. -infinity gets 0.
 * A row of only -infinity gets zeros (it is a bad row, and nothing is chosen from it).
 */
export function softmax(logits: Float32Array, into: Float32Array): void {
  let max = -Infinity;
  for (let e = 0; e < logits.length; e++) if (logits[e] > max) max = logits[e];
  if (max === -Infinity) {
    into.fill(0);
    return;
  }
  let sum = 0;
  for (let e = 0; e < logits.length; e++) sum += Math.exp(logits[e] - max);
  for (let e = 0; e < logits.length; e++) into[e] = Math.exp(logits[e] - max) / sum;
}

/** ln(1 + e^x), exact for large x. */
export function softplus(x: number): number {
  return Math.max(x, 0) + Math.log1p(Math.exp(-Math.abs(x)));
}

const eachValue =
  (f: (x: number) => number): RowFunction =>
  (logits, into) => {
    for (let e = 0; e < logits.length; e++) into[e] = f(logits[e]);
  };

const FUNCTIONS: Record<ScoreOptions['function'], RowFunction> = {
  softmax,
  sigmoid: eachValue((x) => 1 / (1 + Math.exp(-x))),
  'sqrt-softplus': eachValue((x) => (x === -Infinity ? 0 : Math.sqrt(softplus(x)))),
  identity: eachValue((x) => x),
};

/** logits [T, E] -> scores [T, E]. Bad rows score 0 everywhere. */
export function score(options: ScoreOptions, input: RouterInput, rows: Rows, seed?: number): Scored {
  const noise = noiseOf(options, input, rows, seed);
  const logits = noise ? plus(input.logits, noise.added) : input.logits;
  const scores = zeros(logits.rows, logits.cols);
  const apply = FUNCTIONS[options.function];
  for (let t = 0; t < logits.rows; t++) {
    if (rows.bad[t] === 0) apply(row(logits, t), row(scores, t));
  }
  return { logits, scores };
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
