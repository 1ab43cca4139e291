import type { Matrix } from '../tensor.js';
import { squaredCv } from './load.js';
import type { Routing } from './routing.js';

/*
 * The losses that keep experts busy alike, each named by its variant, because one name means different scales in
 * different libraries. All count the choices before drops and leave out bad rows; with no tokens they are 0.
 */

/** What a loss needs beside the routing. */
export interface LossContext {
  /** Tokens of each sequence, in row order; one sequence of T where left out. */
  readonly sequences?: readonly number[];
  /** [T, E] what was added to the logits, and its standard deviation (one number, or [T, E]). */
  readonly noise?: { readonly added: Matrix; readonly deviation: number | Matrix };
}

/** Every named loss; null where this routing cannot tell it. */
export interface Losses {
  /** E * sum of f_e * P_e, f the share of the assignments: 1 when balanced (Fedus et al. 2021, eq. 4, over all k choices). */
  readonly switch: number;
  /** E * sum of c_e / T * P_e, c the assignments: K when balanced (Hugging Face transformers). */
  readonly hf: number;
  /** E^2 * mean of f1_e * P_e, f1 the share of the first choices: 1 when balanced (GShard, section 2.2; V-MoE's code). */
  readonly gshard: number;
  /** Squared coefficient of variation of the summed probabilities (Shazeer et al. 2017, eq. 7; over all experts, as V-MoE has it). */
  readonly importancePopulation: number;
  /** The same with the sample variance. */
  readonly importanceSample: number;
  /** Squared coefficient of variation of the counts of assignments. */
  readonly loadPopulation: number;
  readonly loadSample: number;
  /** The same of the smooth load (Shazeer et al. 2017, eq. 8-11); null without noise. */
  readonly smoothLoad: number | null;
  /** Mean of logsumexp(logits)^2 (ST-MoE, eq. 5). */
  readonly z: number;
  /** Mean over sequences of sum of f_e * P_e, scores normalised per token (DeepSeek-V3, eq. 17-20, without alpha): 1 when balanced. */
  readonly sequenceWise: number;
}

/** All losses of one routing. */
export function lossesOf(routing: Routing, context: LossContext = {}): Losses {
  const { experts } = routing;
  const good = goodRows(routing);
  const { P, z } = readLogits(routing.logits, good);
  const counts = countChoices(routing, (choice) => choice >= 0);
  const first = countChoices(routing, (choice) => choice === 0);
  const all = total(counts);
  const weighed = (shares: readonly number[]) =>
    experts * shares.reduce((sum, share, e) => sum + share * P[e]!, 0);
  const importance = P.map((mean) => mean * good.length);
  return {
    switch: weighed(counts.map((count) => ratio(count, all))),
    hf: weighed(counts.map((count) => ratio(count, good.length))),
    gshard: weighed(first.map((count) => ratio(count, good.length))),
    importancePopulation: squaredCv(importance, 0),
    importanceSample: squaredCv(importance, 1),
    loadPopulation: squaredCv(counts, 0),
    loadSample: squaredCv(counts, 1),
    smoothLoad: context.noise ? smoothLoadLoss(routing.logits, context.noise, routing.choices) : null,
    z,
    sequenceWise: sequenceWiseLoss(routing, good, context.sequences ?? [routing.tokens]),
  };
}

/**
 * Squared coefficient of variation (population) of the smooth load: for each expert the chance, under fresh noise, that it
 * would be among the k best, meaned over tokens. The threshold is the k-th noisy logit, as in V-MoE's code; Shazeer et al.
 * take the k-th without the expert itself.
 */
export function smoothLoadLoss(
  logits: Matrix,
  { added, deviation }: NonNullable<LossContext['noise']>,
  k: number,
): number {
  const { rows, cols } = logits;
  const load = new Array<number>(cols).fill(0);
  for (let t = 0; t < rows; t++) {
    const at = t * cols;
    const noisy = Array.from({ length: cols }, (_, e) => logits.data[at + e]! + added.data[at + e]!);
    const threshold = noisy.toSorted((a, b) => b - a)[k - 1]!;
    for (let e = 0; e < cols; e++) {
      const scale = typeof deviation === 'number' ? deviation : deviation.data[at + e]!;
      load[e]! += ratio(1 - normalCdf((threshold - logits.data[at + e]!) / scale), rows);
    }
  }
  return squaredCv(load, 0);
}

/**
 * logits [T,E] -> their softmax meaned over the good rows [E], in float64, and the z-loss. One pass for both, because
 * exponentials are what the losses cost.
 */
function readLogits({ cols, data }: Matrix, good: readonly number[]): { P: number[]; z: number } {
  const sums = new Array<number>(cols).fill(0);
  const powers = new Float64Array(cols);
  let squares = 0;
  for (const t of good) {
    const at = t * cols;
    let top = Number.NEGATIVE_INFINITY;
    for (let e = 0; e < cols; e++) top = Math.max(top, data[at + e]!);
    let mass = 0;
    for (let e = 0; e < cols; e++) mass += powers[e] = Math.exp(data[at + e]! - top);
    for (let e = 0; e < cols; e++) sums[e]! += powers[e]! / mass;
    const z = top + Math.log(mass);
    squares += z * z;
  }
  return { P: sums.map((sum) => ratio(sum, good.length)), z: ratio(squares, good.length) };
}

function sequenceWiseLoss(routing: Routing, good: readonly number[], sequences: readonly number[]): number {
  const { experts, token, expert } = routing;
  let end = 0;
  let sum = 0;
  let counted = 0;
  // Rows and assignments are in the order of their tokens, so each sequence takes up where the one before it ended.
  let row = 0;
  let a = 0;
  for (const length of sequences) {
    end += length;
    const counts = new Array<number>(experts).fill(0);
    for (; a < token.length && token[a]! < end; a++) counts[expert[a]!]!++;
    const from = row;
    while (row < good.length && good[row]! < end) row++;
    if (row === from) continue;
    const P = meanShares(routing.scores, good.slice(from, row));
    const all = total(counts);
    sum += counts.reduce((loss, count, e) => loss + experts * ratio(count, all) * P[e]!, 0);
    counted++;
  }
  return ratio(sum, counted);
}

/** scores [T,E] -> the share of each expert in the scores of a row, meaned over `rows` [E]. */
function meanShares({ cols, data }: Matrix, rows: readonly number[]): number[] {
  const shares = new Array<number>(cols).fill(0);
  for (const t of rows) {
    const at = t * cols;
    let mass = 0;
    for (let e = 0; e < cols; e++) mass += finite(data[at + e]!);
    for (let e = 0; e < cols; e++) shares[e]! += ratio(finite(data[at + e]!), mass) / rows.length;
  }
  return shares;
}

/** Rows that could be routed, ascending. */
function goodRows({ tokens, badRows }: Routing): number[] {
  const bad = new Set(badRows.map(({ row }) => row));
  const good: number[] = [];
  for (let t = 0; t < tokens; t++) if (bad.size === 0 || !bad.has(t)) good.push(t);
  return good;
}

/** Assignments of each expert [E] whose choice counts. */
function countChoices({ experts, expert, choice }: Routing, counts: (choice: number) => boolean): number[] {
  const load = new Array<number>(experts).fill(0);
  for (let a = 0; a < expert.length; a++) if (counts(choice[a]!)) load[expert[a]!]!++;
  return load;
}

/** Distribution function of the standard normal, by the series of the error function without cancellation. */
function normalCdf(x: number): number {
  const z = Math.abs(x);
  if (z > 8) return x < 0 ? 0 : 1;
  let term = z;
  let sum = z;
  for (let n = 3; term > 1e-17 * sum; n += 2) sum += term *= (z * z) / n;
  const half = (sum * Math.exp((-z * z) / 2)) / Math.sqrt(2 * Math.PI);
  return x < 0 ? 0.5 - half : 0.5 + half;
}

function total(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0);
}

function finite(value: number): number {
  return Number.isFinite(value) ? value : 0;
}

function ratio(a: number, b: number): number {
  return b === 0 ? 0 : a / b;
}
