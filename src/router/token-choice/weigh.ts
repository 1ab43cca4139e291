import type { Matrix } from '../../tensor.js';
import type { WeighOptions } from './options.js';

/** Keeps a sum of scores that are all 0 (saturated sigmoids) from dividing by zero, as DeepSeek-V3's 1e-20. */
const SMALLEST_SUM = 1e-20;

/** What is weighed; `expert` is [T * K], -1 where there is no choice. */
export interface Weighed {
  readonly expert: Int32Array;
  readonly choices: number;
  /** [T, E] with noise. */
  readonly logits: Matrix;
  /** [T * K] of the chosen. */
  scores(): Float32Array;
}

/**
 * Chosen experts -> their weights [T * K] before drops: the score; divided by the sum of the chosen; or softmax over the
 * chosen logits. All times `scale`; 0 where there is no choice.
 */
export function weigh({ by, scale = 1 }: WeighOptions, weighed: Weighed): Float32Array {
  const { expert, choices } = weighed;
  const weight = new Float32Array(expert.length);
  const scores = by === 'softmax' ? undefined : weighed.scores();
  const raw = new Float64Array(choices);
  for (let start = 0; start < expert.length; start += choices) {
    if (scores) for (let c = 0; c < choices; c++) raw[c] = scores[start + c];
    else powers(weighed, start, raw);
    let sum = by === 'score' ? 1 : 0;
    if (by !== 'score') for (let c = 0; c < choices; c++) sum += raw[c];
    const divisor = Math.max(sum, SMALLEST_SUM);
    for (let c = 0; c < choices; c++) weight[start + c] = (raw[c] / divisor) * scale;
  }
  return weight;
}

/** exp(logit - largest) of each choice of the token whose choices begin at `start`; 0 where there is none. */
function powers({ expert, choices, logits }: Weighed, start: number, into: Float64Array): void {
  const { data, cols } = logits;
  const base = (start / choices) * cols;
  let max = -Infinity;
  for (let c = 0; c < choices; c++) {
    into[c] = expert[start + c] < 0 ? -Infinity : data[base + expert[start + c]];
    if (into[c] > max) max = into[c];
  }
  for (let c = 0; c < choices; c++) into[c] = into[c] === -Infinity ? 0 : Math.exp(into[c] - max);
}
