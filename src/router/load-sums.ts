import { type Imbalance, imbalanceOf, noDrops } from './load.js';
import type { Losses } from './losses.js';
import type { RoutingReport } from './report.js';
import type { DropReason } from './routing.js';

/** Each loss, or null where nothing could tell it. */
export type LossMeans = { readonly [K in keyof Losses]: number | null };

/** What one layer did over some calls. */
export interface WindowLoad {
  readonly calls: number;
  readonly tokens: number;
  /** [E] sums over the calls: chosen before drops, and kept. */
  readonly load: readonly number[];
  readonly kept: readonly number[];
  readonly dropped: Readonly<Record<DropReason, number>>;
  /** Dropped over chosen. */
  readonly dropRate: number;
  /** Means over the calls, each by its tokens; null where no call could tell. */
  readonly losses: LossMeans;
  /** Of the summed load. */
  readonly imbalance: Imbalance;
}

export const LOSS_NAMES = [
  'switch',
  'hf',
  'gshard',
  'importancePopulation',
  'importanceSample',
  'loadPopulation',
  'loadSample',
  'smoothLoad',
  'z',
  'sequenceWise',
] as const satisfies readonly (keyof Losses)[];

const REASONS = Object.keys(noDrops()) as DropReason[];

/** Where the numbers of a sum stand: calls, tokens, drops by reason, then for each loss its sum by tokens and those tokens. */
const DROPS = 2;
const LOSSES = DROPS + REASONS.length;
const TOLD = LOSSES + LOSS_NAMES.length;
const LENGTH = TOLD + LOSS_NAMES.length;

/** `short` counts hold up to 2^32 - 1, in half the memory. */
export type Counts = 'long' | 'short';

/** Sums of the calls of one layer with E experts, in two typed arrays: thousands of them are kept, and added to in each step. */
export class LoadSums {
  readonly experts: number;
  readonly #numbers = new Float64Array(LENGTH);
  /** [2E] the load, then what was kept. */
  readonly #counts: Float64Array | Uint32Array;

  constructor(experts: number, counts: Counts = 'long') {
    this.experts = experts;
    this.#counts = counts === 'long' ? new Float64Array(2 * experts) : new Uint32Array(2 * experts);
  }

  /** Takes in one call of `tokens` tokens. */
  add({ load, kept, dropped, losses }: RoutingReport, tokens: number): void {
    const numbers = this.#numbers;
    const counts = this.#counts;
    numbers[0]! += 1;
    numbers[1]! += tokens;
    for (let r = 0; r < REASONS.length; r++) numbers[DROPS + r]! += dropped[REASONS[r]!];
    for (let l = 0; l < LOSS_NAMES.length; l++) {
      const loss = losses[LOSS_NAMES[l]!];
      if (loss === null || tokens === 0) continue;
      numbers[LOSSES + l]! += tokens * loss;
      numbers[TOLD + l]! += tokens;
    }
    for (let e = 0; e < this.experts; e++) {
      counts[e]! += load[e]!;
      counts[this.experts + e]! += kept[e]!;
    }
  }

  /** Adds the sums of other calls of the same layer. */
  merge(other: LoadSums): void {
    for (let i = 0; i < LENGTH; i++) this.#numbers[i]! += other.#numbers[i]!;
    for (let i = 0; i < this.#counts.length; i++) this.#counts[i]! += other.#counts[i]!;
  }

  clear(): void {
    this.#numbers.fill(0);
    this.#counts.fill(0);
  }

  read(): WindowLoad {
    const numbers = this.#numbers;
    const load = Array.from(this.#counts.subarray(0, this.experts));
    const dropped = Object.fromEntries(REASONS.map((reason, r) => [reason, numbers[DROPS + r]!]));
    const means = LOSS_NAMES.map((name, l) => {
      const told = numbers[TOLD + l]!;
      return [name, told === 0 ? null : numbers[LOSSES + l]! / told];
    });
    return {
      calls: numbers[0]!,
      tokens: numbers[1]!,
      load,
      kept: Array.from(this.#counts.subarray(this.experts)),
      dropped: dropped as Record<DropReason, number>,
      dropRate: dropRateOf(load, dropped as Record<DropReason, number>),
      losses: Object.fromEntries(means) as LossMeans,
      imbalance: imbalanceOf(load),
    };
  }
}

/** Dropped over chosen; 0 where nothing was chosen. */
export function dropRateOf(load: readonly number[], dropped: Readonly<Record<DropReason, number>>): number {
  const chosen = load.reduce((sum, count) => sum + count, 0);
  const drops = REASONS.reduce((sum, reason) => sum + dropped[reason], 0);
  return chosen === 0 ? 0 : drops / chosen;
}
