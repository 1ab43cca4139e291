import { LOSS_NAMES, LoadSums, type WindowLoad } from '../../src/router/load-sums.js';
import { mergeOptions } from '../../src/router/options.js';
import { reportRouting } from '../../src/router/report.js';
import type { Router, Routing } from '../../src/router/routing.js';
import type { Combination } from './combinations.js';
import { costOfRouting } from './cost.js';
import { type BaselineBits, qualityOf } from './quality.js';
import type { Row } from './report-schema.js';
import type { CallRun, LayerRun, SequenceRun, Source } from './source.js';
import { CallTimes } from './times.js';

/** Gathers the figures of one rule, call by call. */
export class Tally {
  readonly #source: Source;
  readonly #combination: Combination;
  /** [L] */
  readonly #loads: readonly LoadSums[];
  /** [L] the same rule without capacity, where overflow moves tokens. */
  readonly #unlimited: readonly (Router | undefined)[];
  readonly #sequences: SequenceRun[] = [];
  readonly #times = new CallTimes();
  /** Of each call and layer: what a lane feels, where the popular experts change in the course of the text. */
  readonly #callMaxVio: number[] = [];
  #tokensDropped = 0;
  #rerouted = 0;
  #flops = 0;
  #bytes = 0;

  constructor(source: Source, combination: Combination) {
    this.#source = source;
    this.#combination = combination;
    this.#loads = source.layers.map(({ experts }) => new LoadSums(experts));
    this.#unlimited = combination.options.map((options, layer) =>
      'admit' in options && typeof options.admit === 'object' && options.admit.overflow === 'next-best'
        ? source.routerOf(mergeOptions(options, { admit: 'none' }), layer)
        : undefined,
    );
  }

  add(run: CallRun): void {
    this.#times.add(run);
    this.#sequences.push(...run.sequences);
    const sequences = run.sequences.map(({ tokens }) => tokens);
    for (const [layer, own] of run.layers.entries()) {
      const { routing } = own;
      const report = reportRouting(routing, { sequences });
      this.#loads[layer]!.add(report, routing.tokens);
      this.#callMaxVio.push(report.imbalance.maxVio);
      this.#tokensDropped += tokensWithout(routing);
      this.#rerouted += reroutedOf(own, this.#unlimited[layer]);
      const cost = this.#source.costs?.[layer];
      if (!cost) continue;
      const { flops, bytes } = costOfRouting(routing, this.#combination.routers[layer]!.computed, cost);
      this.#flops += flops;
      this.#bytes += bytes;
    }
  }

  /** The same calls once more: for their times alone. */
  addTimes(run: CallRun): void {
    this.#times.add(run);
  }

  row(baseline: BaselineBits | undefined): Row {
    const loads = this.#loads.map((sums) => sums.read());
    const tokens = this.#sequences.reduce((sum, own) => sum + own.tokens, 0);
    return {
      ...describe(this.#combination),
      tokens,
      quality: qualityOf(this.#sequences, baseline),
      drops: this.#drops(loads),
      load: { ...meanImbalance(loads), callMaxVio: meanOf(this.#callMaxVio) },
      losses: meanLosses(loads),
      cost: this.#source.costs
        ? { flopsPerToken: this.#flops / tokens, bytesPerToken: this.#bytes / tokens }
        : null,
      layers: loads.map(({ load, kept, dropped, dropRate, losses, imbalance }, layer) => ({
        name: this.#source.layers[layer]!.name,
        load: [...load],
        kept: [...kept],
        dropped: { ...dropped },
        dropRate,
        losses: { ...losses },
        imbalance: { ...imbalance },
      })),
      times: this.#times.figures(),
    };
  }

  #drops(loads: readonly WindowLoad[]): Row['drops'] {
    const total = (lists: readonly (readonly number[])[]) => lists.flat().reduce((sum, n) => sum + n, 0);
    const chosen = total(loads.map(({ load }) => load));
    const kept = total(loads.map((own) => own.kept));
    const dropped: Record<string, number> = {};
    for (const own of loads) {
      for (const [reason, count] of Object.entries(own.dropped))
        dropped[reason] = (dropped[reason] ?? 0) + count;
    }
    return {
      chosen,
      kept,
      dropped,
      dropRate: chosen === 0 ? 0 : (chosen - kept) / chosen,
      tokensDropped: this.#tokensDropped,
      rerouted: this.#rerouted,
    };
  }
}

/** What a row says of its rule. */
export function describe(combination: Combination): RuleFields {
  const { id, name, alsoKnownAs, capacity, factor, priority, overflow, scope } = combination;
  const { alike, choices, causal, notCausalBecause, options } = combination;
  const texts = new Set(options.map((own) => JSON.stringify(own)));
  return {
    ...{ id, name, alsoKnownAs: [...alsoKnownAs], alike, capacity, factor, priority, overflow, scope },
    ...{ choices, causal, ...(notCausalBecause !== undefined && { notCausalBecause }) },
    options: texts.size === 1 ? [options[0]] : [...options],
  };
}

type RuleFields = Pick<
  Row,
  | ('id' | 'name' | 'alsoKnownAs' | 'alike' | 'capacity' | 'factor' | 'priority' | 'overflow')
  | ('scope' | 'choices' | 'causal' | 'notCausalBecause' | 'options')
>;

/** Tokens of a call that kept no expert. */
function tokensWithout({ tokens, token, reason }: Routing): number {
  const served = new Uint8Array(tokens);
  for (let a = 0; a < token.length; a++) if (reason[a] === 0) served[token[a]!] = 1;
  return served.reduce((without, has) => without + 1 - has, 0);
}

/** Kept choices whose expert is another than the one chosen without any capacity. */
function reroutedOf({ routing, input }: LayerRun, unlimited: Router | undefined): number {
  if (!unlimited) return 0;
  const chosen = unlimited.route({ ...input, logits: routing.logits });
  const expertAt = new Map<number, number>();
  const place = (r: Routing, a: number) => r.token[a]! * r.choices + r.choice[a]!;
  for (let a = 0; a < chosen.expert.length; a++) expertAt.set(place(chosen, a), chosen.expert[a]!);
  let moved = 0;
  for (let a = 0; a < routing.expert.length; a++) {
    if (routing.reason[a] === 0 && expertAt.get(place(routing, a)) !== routing.expert[a]) moved++;
  }
  return moved;
}

function meanOf(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}

/** Means over the layers, and all dead experts. */
function meanImbalance(loads: readonly WindowLoad[]): Record<string, number> {
  const keys = Object.keys(loads[0]!.imbalance) as (keyof WindowLoad['imbalance'])[];
  return Object.fromEntries(
    keys.map((key) => {
      const sum = loads.reduce((all, { imbalance }) => all + imbalance[key], 0);
      return [key, key === 'dead' ? sum : sum / loads.length];
    }),
  );
}

/** Means over the layers; null where one cannot tell. */
function meanLosses(loads: readonly WindowLoad[]): Record<string, number | null> {
  return Object.fromEntries(
    LOSS_NAMES.map((name) => {
      const values = loads.map(({ losses }) => losses[name]);
      const known = values.filter((value) => value !== null);
      return [name, known.length < values.length ? null : known.reduce((a, b) => a + b, 0) / known.length];
    }),
  );
}
