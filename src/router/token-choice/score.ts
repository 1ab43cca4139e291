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
  const logits = addNoise(options, input, rows, seed);
  const scores = zeros(logits.rows, logits.cols);
  const apply = FUNCTIONS[options.function];
  for (let t = 0; t < logits.rows; t++) {
    if (rows.bad[t] === 0) apply(row(logits, t), row(scores, t));
  }
  return { logits, scores };
}

/**
 * Shazeer et al. 2017, eq. 4: logits + N(0,1) * softplus(noiseScale); V-MoE: logits + N(0,1) * scale / E.
 * Without given noise or a seed, the logits as they are: noise belongs to training.
 */
function addNoise(options: ScoreOptions, input: RouterInput, rows: Rows, seed?: number): Matrix {
  const { logits, noise, noiseScale } = input;
  const kind = options.noise;
  if (!kind || (!noise && seed === undefined)) return logits;
  if (kind.kind === 'learned' && !noiseScale) return withoutScale(logits, noise);
  const noisy = zeros(logits.rows, logits.cols);
  for (let t = 0; t < logits.rows; t++) {
    const key = rowKey({ seed: seed ?? 0, ...rows.source(t), use: 'noise' });
    for (let e = 0, i = t * logits.cols; e < logits.cols; e++, i++) {
      const scale = kind.kind === 'learned' ? softplus(noiseScale!.data[i]) : kind.scale / logits.cols;
      noisy.data[i] = logits.data[i] + scale * (noise ? noise.data[i] : normal(key, e));
    }
  }
  return noisy;
}

/** A noisy gate that gives no scale is one at evaluation; noise without its scale is a mistake. */
function withoutScale(logits: Matrix, noise: Matrix | undefined): Matrix {
  if (!noise) return logits;
  throw new TurnoutError('TURNOUT_INPUT_INVALID', 'noise: expected noiseScale [T, E] beside it, got none', {
    noise: [noise.rows, noise.cols],
  });
}
