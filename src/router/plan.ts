import { type DispatchPlan, DROP_REASONS, type DropReason, type Routing } from './routing.js';

/**
 * The kept assignments sorted by expert, by a counting sort that keeps the order of tokens within an expert.
 * Every algorithm ends here; what follows is blind to which one it was.
 */
export function planDispatch(routing: Routing): DispatchPlan {
  const { expert, token, choice, weight, reason, experts } = routing;
  const offsets = new Int32Array(experts + 1);
  const dropped: { token: number; choice: number; expert: number; reason: DropReason }[] = [];
  for (let a = 0; a < expert.length; a++) {
    if (reason[a] === 0) offsets[expert[a] + 1]++;
    else {
      const why = DROP_REASONS[reason[a]] as DropReason;
      dropped.push({ token: token[a], choice: choice[a], expert: expert[a], reason: why });
    }
  }
  for (let e = 0; e < experts; e++) offsets[e + 1] += offsets[e];
  const assignments = new Int32Array(offsets[experts]);
  const next = offsets.slice(0, experts);
  for (let a = 0; a < expert.length; a++) if (reason[a] === 0) assignments[next[expert[a]]++] = a;
  const weights = new Float32Array(assignments.length);
  const tokenIds = new Int32Array(assignments.length);
  for (let i = 0; i < assignments.length; i++) {
    weights[i] = weight[assignments[i]];
    tokenIds[i] = token[assignments[i]];
  }
  const plan: Omit<DispatchPlan, keyof Branded> = {
    tokens: routing.tokens,
    experts,
    tokenIds,
    weights,
    offsets,
    assignments,
    weightsOn: routing.weightsOn,
    dropped,
  };
  return plan as DispatchPlan;
}

/** The brand has no value: it only keeps other modules from writing a plan by hand. */
type Branded = { [K in keyof DispatchPlan as K extends symbol ? K : never]: true };
