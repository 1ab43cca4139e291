/**
 * A Mixture-of-Experts layer as its definition reads, in float64 and by plain loops: what everything is compared with.
 * Scores are softmax or sigmoid over all experts; each token takes its k best; weights are its scores, or its scores
 * divided by their sum; an expert takes `capacity(n)` rows of its group at most, first come, first served; a lost one
 * takes its rows and gives nothing.
 */
export interface Layer {
  readonly score: 'softmax' | 'sigmoid';
  readonly k: number;
  readonly normalise: boolean;
  readonly scale?: number;
  /** Rows that an expert may hold after n tokens of a group; without limit where left out. */
  readonly capacity?: (n: number) => number;
  /** `running`: the n-th token meets capacity(n); `whole`: every token meets the capacity of its whole group. */
  readonly count?: 'running' | 'whole';
  readonly experts: readonly ((x: readonly number[]) => readonly number[])[];
  /** Experts that cannot be had: their share goes to the others that the token keeps. */
  readonly lost?: readonly number[];
}

/** x [T][H], logits [T][E], lengths of the groups that share a capacity -> y [T][H] and the kept choices [T]. */
export function referenceMoe(
  layer: Layer,
  x: readonly number[][],
  logits: readonly number[][],
  groups: readonly number[],
) {
  const {
    score,
    k,
    normalise,
    scale = 1,
    capacity = () => Number.POSITIVE_INFINITY,
    count = 'running',
    lost = [],
  } = layer;
  const y: number[][] = [];
  const kept: { expert: number; weight: number }[][] = [];
  for (const length of groups) {
    const held = layer.experts.map(() => 0);
    for (let n = 1; n <= length; n++) {
      const t = y.length;
      const mass = logits[t]!.reduce((sum, logit) => sum + Math.exp(logit), 0);
      const scores = logits[t]!.map((logit) =>
        score === 'softmax' ? Math.exp(logit) / mass : 1 / (1 + Math.exp(-logit)),
      );
      const best = scores
        .map((_, e) => e)
        .sort((a, b) => scores[b]! - scores[a]! || a - b)
        .slice(0, k);
      const sum = normalise ? total(best, scores) : 1;
      const limit = capacity(count === 'running' ? n : length);
      const taken = best.filter((e) => held[e]! < limit && ++held[e]! > 0);
      const had = taken.filter((e) => !lost.includes(e));
      const share = total(taken, scores) / total(had, scores);
      const chosen = had.map((expert) => ({ expert, weight: (share * scale * scores[expert]!) / sum }));
      const outputs = chosen.map(({ expert }) => layer.experts[expert]!(x[t]!));
      y.push(x[t]!.map((_, h) => chosen.reduce((all, { weight }, c) => all + weight * outputs[c]![h]!, 0)));
      kept.push(chosen);
    }
  }
  return { y, kept };
}

function total(experts: readonly number[], scores: readonly number[]): number {
  return experts.reduce((all, e) => all + scores[e]!, 0);
}
