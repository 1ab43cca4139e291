import { TurnoutError } from '../errors.js';
import { type Imbalance, imbalanceOf, noDrops } from './load.js';
import type { Losses } from './losses.js';
import { type RoutingReport, reportRouting } from './report.js';
import type { DropReason, Routing } from './routing.js';

export interface LoadTrackerOptions {
  /** Calls that the window holds at most; 256 where left out. */
  readonly calls?: number;
  /** Milliseconds that the window reaches back; without limit where left out. */
  readonly milliseconds?: number;
  /** Weight of a new call in the moving averages, above 0 and at most 1; 0.05 where left out. */
  readonly emaWeight?: number;
  /** The clock, in milliseconds. */
  readonly now?: () => number;
}

/** One layer over the window, and its exponential moving averages over all calls. */
export interface LayerLoad {
  readonly calls: number;
  readonly tokens: number;
  /** [E] sums over the window: chosen before drops, and kept. */
  readonly load: readonly number[];
  readonly kept: readonly number[];
  readonly dropped: Readonly<Record<DropReason, number>>;
  /** Dropped over chosen. */
  readonly dropRate: number;
  /** Means over the window, each call by its tokens; null where no call could tell. */
  readonly losses: { readonly [K in keyof Losses]: number | null };
  /** Of the summed load. */
  readonly imbalance: Imbalance;
  readonly ema: {
    /** [E] shares of the load. */
    readonly load: readonly number[];
    readonly dropRate: number;
    readonly losses: { readonly [K in keyof Losses]: number | null };
    readonly maxVio: number;
  };
}

interface Entry {
  readonly at: number;
  readonly tokens: number;
  readonly report: RoutingReport;
}

type Means = { [K in keyof Losses]: number | null };

interface Layer {
  entries: Entry[];
  ema: { load: number[]; dropRate: number; losses: Means; maxVio: number } | undefined;
}

/** More calls than this are no window any more, and would hold gigabytes. */
const MAX_CALLS = 100_000;

/**
 * Follows load, drops, losses and imbalance of each layer, over a sliding window and as moving averages.
 * It listens to the diagnostics channel `turnout:layer` as it is: `subscribe('turnout:layer', tracker.record)`.
 */
export class LoadTracker {
  readonly #calls: number;
  readonly #milliseconds: number;
  readonly #weight: number;
  readonly #now: () => number;
  readonly #layers = new Map<number, Layer>();

  /** Throws TURNOUT_OPTIONS_INVALID. */
  constructor(options: LoadTrackerOptions = {}) {
    const { calls = 256, milliseconds = Number.POSITIVE_INFINITY, emaWeight = 0.05, now } = options;
    check(
      'calls',
      calls,
      Number.isInteger(calls) && calls >= 1 && calls <= MAX_CALLS,
      `a whole number from 1 to ${MAX_CALLS}`,
    );
    check('milliseconds', milliseconds, milliseconds > 0, 'a number above 0');
    check('emaWeight', emaWeight, emaWeight > 0 && emaWeight <= 1, 'a number above 0, at most 1');
    this.#calls = calls;
    this.#milliseconds = milliseconds;
    this.#weight = emaWeight;
    this.#now = now ?? (() => performance.now());
  }

  /** Takes in one call of one layer. Bound, so that it can be handed on as a listener; other messages are refused. */
  readonly record = (message: unknown): void => {
    const { layer, routing } = asEvent(message);
    const known = this.#layers.get(layer) ?? { entries: [], ema: undefined };
    this.#layers.set(layer, known);
    const report = reportRouting(routing);
    known.entries.push({ at: this.#now(), tokens: routing.tokens, report });
    if (known.entries.length > this.#calls) known.entries.shift();
    if (routing.tokens > 0) known.ema = average(known.ema, report, this.#weight);
  };

  /** Layer -> what it did, for every layer that was recorded. */
  snapshot(): ReadonlyMap<number, LayerLoad> {
    const oldest = this.#now() - this.#milliseconds;
    const result = new Map<number, LayerLoad>();
    for (const [layer, known] of this.#layers) {
      known.entries = known.entries.filter(({ at }) => at >= oldest);
      result.set(layer, summarise(known));
    }
    return result;
  }

  reset(): void {
    this.#layers.clear();
  }
}

function asEvent(message: unknown): { layer: number; routing: Routing } {
  const event = message as Partial<{ layer: number; routing: Routing }> | null;
  if (typeof event?.layer === 'number' && typeof event.routing === 'object')
    return event as { layer: number; routing: Routing };
  throw new TurnoutError(
    'TURNOUT_INPUT_INVALID',
    `expected a message {layer, routing}, got ${typeof message}`,
  );
}

function summarise({ entries, ema }: Layer): LayerLoad {
  const reports = entries.map((entry) => entry.report);
  const experts = reports[0]?.load.length ?? ema?.load.length ?? 0;
  const add = (key: 'load' | 'kept') =>
    Array.from({ length: experts }, (_, e) => reports.reduce((sum, report) => sum + report[key][e]!, 0));
  const load = add('load');
  const dropped = noDrops();
  for (const report of reports) for (const reason of keys(dropped)) dropped[reason] += report.dropped[reason];
  const chosen = load.reduce((sum, count) => sum + count, 0);
  const drops = keys(dropped).reduce((sum, reason) => sum + dropped[reason], 0);
  return {
    calls: entries.length,
    tokens: entries.reduce((sum, entry) => sum + entry.tokens, 0),
    load,
    kept: add('kept'),
    dropped,
    dropRate: chosen === 0 ? 0 : drops / chosen,
    losses: meanLosses(entries),
    imbalance: imbalanceOf(load),
    ema: ema ?? { load, dropRate: 0, losses: meanLosses([]), maxVio: 0 },
  };
}

const LOSS_NAMES = [
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

function meanLosses(entries: readonly Entry[]): Means {
  return Object.fromEntries(
    LOSS_NAMES.map((name) => {
      const told = entries.filter(({ report, tokens }) => tokens > 0 && report.losses[name] !== null);
      const tokens = told.reduce((sum, entry) => sum + entry.tokens, 0);
      const sum = told.reduce((all, entry) => all + entry.tokens * entry.report.losses[name]!, 0);
      return [name, tokens === 0 ? null : sum / tokens];
    }),
  ) as Means;
}

function average(
  before: Layer['ema'],
  { load, dropped, losses, imbalance }: RoutingReport,
  weight: number,
): Layer['ema'] {
  const chosen = load.reduce((sum, count) => sum + count, 0);
  const drops = keys(dropped).reduce((sum, reason) => sum + dropped[reason], 0);
  const mix = (old: number | null | undefined, value: number) =>
    old == null ? value : old + weight * (value - old);
  return {
    load: load.map((count, e) => mix(before?.load[e], chosen === 0 ? 0 : count / chosen)),
    dropRate: mix(before?.dropRate, chosen === 0 ? 0 : drops / chosen),
    maxVio: mix(before?.maxVio, imbalance.maxVio),
    losses: Object.fromEntries(
      LOSS_NAMES.map((name) => {
        const value = losses[name];
        const old = before?.losses[name] ?? null;
        return [name, value === null ? old : mix(old, value)];
      }),
    ) as Means,
  };
}

function keys(dropped: Readonly<Record<DropReason, number>>): DropReason[] {
  return Object.keys(dropped) as DropReason[];
}

function check(name: string, value: number, ok: boolean, expected: string): void {
  if (!ok)
    throw new TurnoutError('TURNOUT_OPTIONS_INVALID', `${name}: expected ${expected}, got ${value}`, {
      [name]: value,
    });
}
