import { DROP_REASONS, type Routing } from './routing.js';

const LOST = DROP_REASONS.indexOf('lost');

/**
 * The routing as it is when the experts `lost` could not be had: their kept assignments are dropped with reason `lost`
 * (slot -1, weight 0), and what each token had given them goes to its other kept experts in proportion, so that the sum of
 * its weights stays. A token without loss keeps its bits, and one that lost all has nothing: it keeps its residual.
 *
 * The others keep their weights as they are where scaling has no meaning: where theirs sum to 0, where the weights of the
 * token have both signs (the sum is then no measure of them, and dividing by it could flip or inflate them), and where
 * weights are on the input, because the experts have computed with them already and are not linear.
 *
 * `states` stay too: a lost assignment was admitted, and what a lane does must not change who is admitted later.
 * Gives `routing` itself where nothing is lost. `planDispatch` makes its plan.
 */
export function loseExperts(routing: Routing, lost: Iterable<number>): Routing {
  const gone = new Set(lost);
  const { token, expert, weight } = routing;
  const reason = routing.reason.map((why, a) => (why === 0 && gone.has(expert[a]) ? LOST : why));
  const isLost = (a: number) => reason[a] !== routing.reason[a];
  if (!reason.some((_, a) => isLost(a))) return routing;
  const factor = factors(routing, reason);
  return {
    ...routing,
    reason,
    slot: routing.slot.map((slot, a) => (isLost(a) ? -1 : slot)),
    weight: weight.map((value, a) => (isLost(a) ? 0 : value * factor[token[a]])),
  };
}

/** [T] what the weights of each token are multiplied with: 1 where it lost nothing, in float64. */
function factors(
  { tokens, token, weight, reason: before, weightsOn }: Routing,
  after: Uint8Array,
): Float64Array {
  const all = new Float64Array(tokens);
  const sizes = new Float64Array(tokens);
  const left = new Float64Array(tokens);
  for (let a = 0; a < token.length; a++) {
    if (before[a] !== 0) continue;
    all[token[a]] += weight[a];
    sizes[token[a]] += Math.abs(weight[a]);
    if (after[a] === 0) left[token[a]] += weight[a];
  }
  return all.map((sum, t) => {
    const oneSign = Math.abs(sum) === sizes[t];
    return weightsOn === 'output' && oneSign && left[t] !== 0 ? sum / left[t] : 1;
  });
}
