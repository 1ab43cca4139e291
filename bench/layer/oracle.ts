import { planDispatch } from '../../src/router/plan.js';
import { row } from '../../src/tensor.js';
import { referenceExpert } from '../support/experts.js';
import { relativeDifference, toleranceOf } from './case.js';
import type { LayerContender } from './contenders.js';
import type { LayerCase, LayerSource } from './source.js';

/** Throws where what a contender gives the first token is not what plain loops in float64 give. Nothing is checked where the weights are not known. */
export async function checkOracle(
  call: LayerCase,
  { set, router, shape }: LayerSource,
  contenders: readonly LayerContender[],
): Promise<void> {
  if (!set) return;
  const { offsets, tokenIds, weights } = planDispatch(router.route({ logits: call.logits }));
  const y = new Float64Array(shape.hidden);
  for (let e = 0; e < shape.experts; e++) {
    for (let a = offsets[e]!; a < offsets[e + 1]!; a++) {
      if (tokenIds[a] !== 0) continue;
      const part = referenceExpert(set, e, row(call.x, 0));
      for (let h = 0; h < y.length; h++) y[h]! += weights[a]! * part[h]!;
    }
  }
  for (const contender of contenders) {
    const got = (await contender.forward(call)).subarray(0, shape.hidden);
    const difference = relativeDifference(got, y);
    if (!(difference <= toleranceOf(contender, shape.dtype)))
      throw new Error(
        `${contender.name}: its first token differs from plain loops by ${difference} of the output`,
      );
  }
}
