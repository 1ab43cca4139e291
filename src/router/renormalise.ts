import type { RenormaliseOptions } from './stage-options.js';

/** As in weigh: a sum of scores that are all 0 must not divide. */
const SMALLEST_SUM = 1e-20;

/**
 * Weights [T * K] before drops -> weights in combine: 0 where `reason` is not 0, the others scaled so that those of
 * a token sum to `scale`, over all its choices (`before-drop`) or over the kept ones (`after-drop`), or not at all.
 */
export function renormalise(
  weight: Float32Array,
  reason: Uint8Array,
  choices: number,
  options: { when: RenormaliseOptions; scale: number },
): Float32Array {
  const { when, scale } = options;
  const result = weight.slice();
  if (when !== 'never') scaleTokens(result, reason, choices, { when, scale });
  for (let a = 0; a < result.length; a++) if (reason[a] !== 0) result[a] = 0;
  return result;
}

function scaleTokens(
  weight: Float32Array,
  reason: Uint8Array,
  choices: number,
  { when, scale }: { when: RenormaliseOptions; scale: number },
): void {
  for (let start = 0; start < weight.length; start += choices) {
    let sum = 0;
    for (let a = start; a < start + choices; a++) {
      if (when === 'before-drop' || reason[a] === 0) sum += weight[a];
    }
    const factor = scale / Math.max(sum, SMALLEST_SUM);
    for (let a = start; a < start + choices; a++) weight[a] *= factor;
  }
}
