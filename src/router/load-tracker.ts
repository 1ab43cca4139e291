import { TurnoutError } from '../errors.js';
import { dropRateOf, LOSS_NAMES, LoadSums, type LossMeans, type WindowLoad } from './load-sums.js';
import { type RoutingReport, reportRouting } from './report.js';
import type { Routing } from './routing.js';

export type { WindowLoad } from './load-sums.js';

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
export interface LayerLoad extends WindowLoad {
  readonly ema: {
    /** [E] shares of the load. */
    readonly load: readonly number[];
    readonly dropRate: number;
    readonly losses: LossMeans;
    readonly maxVio: number;
  };
}

interface Entry {
  readonly at: number;
  readonly tokens: number;
  readonly report: RoutingReport;
}

interface Layer {
  entries: Entry[];
  ema: LayerLoad['ema'] | undefined;
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
    checkOption(
      'calls',
      calls,
      Number.isInteger(calls) && calls >= 1 && calls <= MAX_CALLS,
      `a whole number from 1 to ${MAX_CALLS}`,
    );
    checkOption('milliseconds', milliseconds, milliseconds > 0, 'a number above 0');
    checkOption('emaWeight', emaWeight, emaWeight > 0 && emaWeight <= 1, 'a number above 0, at most 1');
    this.#calls = calls;
    this.#milliseconds = milliseconds;
    this.#weight = emaWeight;
    this.#now = now ?? (() => performance.now());
  }

  /** Takes in one call of one layer. Bound, so that it can be handed on as a listener; other messages are refused. */
  readonly record = (message: unknown): void => {
    const { layer, routing } = asLayerCall(message);
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

/** A message of `turnout:layer`. Throws TURNOUT_INPUT_INVALID for anything else. */
export function asLayerCall(message: unknown): { layer: number; routing: Routing } {
  const event = message as Partial<{ layer: number; routing: Routing }> | null;
  if (typeof event?.layer === 'number' && typeof event.routing === 'object' && event.routing !== null)
    return event as { layer: number; routing: Routing };
  throw new TurnoutError(
    'TURNOUT_INPUT_INVALID',
    `expected a message {layer, routing}, got ${typeof message}`,
  );
}

function summarise({ entries, ema }: Layer): LayerLoad {
  const experts = entries[0]?.report.load.length ?? ema?.load.length ?? 0;
  const sums = new LoadSums(experts);
  for (const { report, tokens } of entries) sums.add(report, tokens);
  const window = sums.read();
  return { ...window, ema: ema ?? { load: window.load, dropRate: 0, losses: window.losses, maxVio: 0 } };
}

function average(
  before: Layer['ema'],
  { load, dropped, losses, imbalance }: RoutingReport,
  weight: number,
): Layer['ema'] {
  const chosen = load.reduce((sum, count) => sum + count, 0);
  const mix = (old: number | null | undefined, value: number) =>
    old == null ? value : old + weight * (value - old);
  return {
    load: load.map((count, e) => mix(before?.load[e], chosen === 0 ? 0 : count / chosen)),
    dropRate: mix(before?.dropRate, dropRateOf(load, dropped)),
    maxVio: mix(before?.maxVio, imbalance.maxVio),
    losses: Object.fromEntries(
      LOSS_NAMES.map((name) => {
        const value = losses[name];
        const old = before?.losses[name] ?? null;
        return [name, value === null ? old : mix(old, value)];
      }),
    ) as LossMeans,
  };
}

export function checkOption(name: string, value: number, ok: boolean, expected: string): void {
  if (!ok)
    throw new TurnoutError('TURNOUT_OPTIONS_INVALID', `${name}: expected ${expected}, got ${value}`, {
      [name]: value,
    });
}
