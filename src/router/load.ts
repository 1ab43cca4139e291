import { DROP_REASONS, type DropReason, type Routing } from './routing.js';

/** Assignments of a call: chosen and kept by expert, and the dropped ones by reason. */
export interface Load {
  /** [E] tokens that chose each expert, before drops. */
  readonly load: readonly number[];
  /** [E] those that it kept. */
  readonly kept: readonly number[];
  readonly dropped: Readonly<Record<DropReason, number>>;
}

export function loadOf(routing: Routing): Load {
  const load = new Array<number>(routing.experts).fill(0);
  const kept = new Array<number>(routing.experts).fill(0);
  const dropped = noDrops();
  for (let a = 0; a < routing.expert.length; a++) {
    const expert = routing.expert[a]!;
    load[expert]!++;
    const reason = DROP_REASONS[routing.reason[a]!]!;
    if (reason === 'kept') kept[expert]!++;
    else dropped[reason]++;
  }
  return { load, kept, dropped };
}

export function noDrops(): Record<DropReason, number> {
  const reasons = DROP_REASONS.filter((reason) => reason !== 'kept') as DropReason[];
  return Object.fromEntries(reasons.map((reason) => [reason, 0])) as Record<DropReason, number>;
}

/** How unevenly experts are loaded. With no load at all: nothing varies, and every expert is dead. */
export interface Imbalance {
  /** Standard deviation (population) over mean; 0 when even. */
  readonly cv: number;
  /** Largest over mean, minus 1; 0 when even (MaxVio, Wang et al. 2024, eq. 4). */
  readonly maxVio: number;
  /** Smallest over mean; 1 when even. */
  readonly minOverMean: number;
  /** Mean over largest: the share of its time that a lane per expert computes; 1 when even. */
  readonly balancedness: number;
  /** Entropy of the shares in bits, and over log2(E); 1 when even. */
  readonly entropyBits: number;
  readonly normalisedEntropy: number;
  /** 0 when even, (E - 1) / E when one expert has all. */
  readonly gini: number;
  /** Experts without load. */
  readonly dead: number;
}

/** load [E] -> its imbalance. */
export function imbalanceOf(load: readonly number[]): Imbalance {
  const E = load.length;
  const sum = load.reduce((all, value) => all + value, 0);
  const dead = load.filter((value) => value === 0).length;
  if (sum === 0) {
    return {
      cv: 0,
      maxVio: 0,
      minOverMean: 1,
      balancedness: 1,
      entropyBits: 0,
      normalisedEntropy: 1,
      gini: 0,
      dead,
    };
  }
  const mean = sum / E;
  const largest = Math.max(...load);
  const entropyBits = load.reduce(
    (bits, value) => (value === 0 ? bits : bits - (value / sum) * Math.log2(value / sum)),
    0,
  );
  const ranked = load.toSorted((a, b) => a - b);
  return {
    cv: Math.sqrt(squaredCv(load, 0)),
    maxVio: largest / mean - 1,
    minOverMean: Math.min(...load) / mean,
    balancedness: mean / largest,
    entropyBits,
    normalisedEntropy: E === 1 ? 1 : entropyBits / Math.log2(E),
    gini: ranked.reduce((area, value, i) => area + (2 * (i + 1) - E - 1) * value, 0) / (E * sum),
    dead,
  };
}

/** (standard deviation / mean)^2 with `ddof` 0 (population) or 1 (sample); 0 for no values and for a mean of 0. */
export function squaredCv(values: readonly number[], ddof: 0 | 1): number {
  const n = values.length;
  const mean = values.reduce((sum, value) => sum + value, 0) / n;
  if (n <= ddof || mean === 0) return 0;
  const squares = values.reduce((sum, value) => sum + (value - mean) ** 2, 0);
  return squares / (n - ddof) / mean ** 2;
}
