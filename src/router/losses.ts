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
  const probabilities = softmaxRows(routing.logits);
  const P = columnSums(probabilities, good, experts).map((sum) => ratio(sum, good.length));
  const counts = countChoices(routing, () => true);
  const first = countChoices(routing, (a) => routing.choice[a] === 0);
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
    z: zLoss(routing.logits, good),
    sequenceWise: sequenceWiseLoss(routing, context.sequences ?? [routing.tokens]),
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

function zLoss({ cols, data }: Matrix, good: readonly number[]): number {
  let sum = 0;
  for (const t of good) {
    const row = data.subarray(t * cols, (t + 1) * cols);
    const top = row.reduce((most, value) => Math.max(most, value), Number.NEGATIVE_INFINITY);
    const z = top + Math.log(row.reduce((mass, value) => mass + Math.exp(value - top), 0));
    sum += z * z;
  }
  return ratio(sum, good.length);
}

function sequenceWiseLoss(routing: Routing, sequences: readonly number[]): number {
  const { experts, scores } = routing;
  const good = new Set(goodRows(routing));
  let start = 0;
  let sum = 0;
  let counted = 0;
  for (const length of sequences) {
    const rows = Array.from({ length }, (_, i) => start + i).filter((t) => good.has(t));
    const end = start + length;
    const from = start;
    const counts = countChoices(routing, (a) => routing.token[a]! >= from && routing.token[a]! < end);
    const all = total(counts);
    const P = new Array<number>(experts).fill(0);
    for (const t of rows) {
      const own = scores.data.subarray(t * experts, (t + 1) * experts);
      const mass = own.reduce((m, value) => m + finite(value), 0);
      own.forEach((value, e) => {
        P[e]! += ratio(finite(value), mass) / rows.length;
      });
    }
    sum += counts.reduce((loss, count, e) => loss + experts * ratio(count, all) * P[e]!, 0);
    counted += rows.length > 0 ? 1 : 0;
    start = end;
  }
  return ratio(sum, counted);
}

/** Rows that could be routed. */
function goodRows({ tokens, badRows }: Routing): number[] {
  const bad = new Set(badRows.map(({ row }) => row));
  return Array.from({ length: tokens }, (_, t) => t).filter((t) => !bad.has(t));
}

function countChoices(routing: Routing, counts: (a: number) => boolean): number[] {
  const load = new Array<number>(routing.experts).fill(0);
  routing.expert.forEach((expert, a) => {
    if (counts(a)) load[expert]!++;
  });
  return load;
}

/** Softmax of each row in float64 -> [T * E]. */
function softmaxRows({ rows, cols, data }: Matrix): Float64Array {
  const result = new Float64Array(rows * cols);
  for (let t = 0; t < rows; t++) {
    const at = t * cols;
    let top = Number.NEGATIVE_INFINITY;
    for (let e = 0; e < cols; e++) top = Math.max(top, data[at + e]!);
    let mass = 0;
    for (let e = 0; e < cols; e++) mass += result[at + e] = Math.exp(data[at + e]! - top);
    for (let e = 0; e < cols; e++) result[at + e]! /= mass;
  }
  return result;
}

function columnSums(values: Float64Array, rows: readonly number[], cols: number): number[] {
  const sums = new Array<number>(cols).fill(0);
  for (const t of rows) for (let e = 0; e < cols; e++) sums[e]! += values[t * cols + e]!;
  return sums;
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
