import type { WeighOptions } from './options.js';
import type { Scored } from './score.js';

/** Keeps a sum of scores that are all 0 (saturated sigmoids) from dividing by zero, as DeepSeek-V3's 1e-20. */
const SMALLEST_SUM = 1e-20;

/**
 * Experts [T * K] (-1: no choice) -> their weights [T * K] before drops: the score; divided by the sum of the
 * chosen; or softmax over the chosen logits. All times `scale`.
 */
export function weigh(
  options: WeighOptions,
  scored: Scored,
  expert: Int32Array,
  choices: number,
): Float32Array {
  const weight = new Float32Array(expert.length);
  const scale = options.scale ?? 1;
  const raw = new Float64Array(choices);
  for (let start = 0; start < expert.length; start += choices) {
    const base = (start / choices) * scored.logits.cols;
    const chosen = expert.subarray(start, start + choices);
    rawWeights(options.by, scored, chosen, base, raw);
    let sum = 1;
    if (options.by !== 'score') {
      sum = 0;
      for (let c = 0; c < choices; c++) sum += raw[c];
      sum = Math.max(sum, SMALLEST_SUM);
    }
    for (let c = 0; c < choices; c++) weight[start + c] = (raw[c] / sum) * scale;
  }
  return weight;
}

/** The weights of one token before the division; 0 where there is no choice. */
function rawWeights(
  by: WeighOptions['by'],
  { logits, scores }: Scored,
  chosen: Int32Array,
  base: number,
  into: Float64Array,
): void {
  const source = by === 'softmax' ? logits : scores;
  let max = -Infinity;
  for (const e of chosen) if (e >= 0) max = Math.max(max, logits.data[base + e]);
  for (let c = 0; c < chosen.length; c++) {
    if (chosen[c] < 0) into[c] = 0;
    else {
      const value = source.data[base + chosen[c]];
      into[c] = by === 'softmax' ? Math.exp(value - max) : value;
    }
  }
}
