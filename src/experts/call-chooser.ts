import { type CallCosts, type CallRows, expectedOf, type Way, workMs } from './call-costs.js';

const WAYS = ['inline', 'joined', 'threads'] as const;

/**
 * Weights of a call in what is learnt, where it took less than was known and where it took more: what others who use the
 * machine add to single calls is forgotten soon.
 */
const WEIGHT = { less: 0.3, more: 0.05 } as const;
/** What took so many times what was expected, or less, had other reasons. */
const ODD = 4;

/** So many calls in a row go the way that comes second: threads that slept before the first of them are awake then. */
const TRIES = 8;
/** Of how many calls of a size: among the first ones, and later on. */
const OF = { soon: 32, later: 256 } as const;
const SOON = 128;
/** A way that is expected to take more times the best is not tried. */
const MOST_TRIED = 2;

interface Choice {
  readonly way: Way;
  readonly ms: number;
}

/** Calls of about the same length. */
interface Size {
  calls: number;
  /** What calls take each way, beside what the costs say. */
  readonly ratios: Record<Way, number>;
}

/**
 * Chooses where each call is over soonest: by costs that were measured before the first one, and by what calls of about
 * the same length have taken since. Costs alone do not tell how soon calls follow each other, and code becomes faster
 * while it runs.
 */
export class CallChooser {
  readonly #costs: CallCosts;
  readonly #mostHereMs: number;
  readonly #sizes = new Map<number, Size>();

  constructor(costs: CallCosts, mostHereMs: number) {
    this.#costs = costs;
    this.#mostHereMs = mostHereMs;
  }

  /** The way of the next call; `took` is to be told how many milliseconds it was under way, where it was alone. */
  choose(call: CallRows): { readonly way: Way; took(ms: number): void } {
    const expected = expectedOf(this.#costs, call, this.#mostHereMs);
    const size = this.#sizeOf(workMs(this.#costs, call));
    const [best, second] = WAYS.map((way) => ({ way, ms: expected[way] * size.ratios[way] })).sort(
      (a, b) => a.ms - b.ms,
    ) as [Choice, Choice];
    const of = size.calls < SOON ? OF.soon : OF.later;
    const left = of - (size.calls++ % of);
    const tries = left <= TRIES && expected[second.way] <= MOST_TRIED * best.ms;
    const { way } = tries ? second : best;
    return { way, took: (ms) => learn(size, way, ms / expected[way]) };
  }

  #sizeOf(ms: number): Size {
    const key = Math.round(Math.log2(ms));
    const known = this.#sizes.get(key);
    if (known) return known;
    const size = { calls: 0, ratios: { inline: 1, joined: 1, threads: 1 } };
    this.#sizes.set(key, size);
    return size;
  }
}

function learn({ ratios }: Size, way: Way, ratio: number): void {
  const change = Math.min(ODD, Math.max(1 / ODD, ratio)) - ratios[way];
  ratios[way] += change * (change < 0 ? WEIGHT.less : WEIGHT.more);
}
