import { type CallCosts, type CallRows, expectedOf, type Way, workMs } from './call-costs.js';

const WAYS = ['inline', 'joined', 'threads'] as const;

/** Calls that go one way before it is chosen anew: threads that slept before the first of them are awake then. */
const RUN = 8;
/** Weight of a run in what is learnt. */
const WEIGHT = 0.5;
/** One in so many runs tries another way: among the first ones, and later on. */
const TRY_OF = { soon: 4, later: 16 } as const;
const SOON = 16;
/** A way that takes more times the best, by the costs, is not tried. */
const MOST_TRIED = 2;

/** Calls of about the same length. */
interface Size {
  calls: number;
  /** Of the run under way, and what its calls took beside what the costs say. */
  way: Way;
  readings: number[];
  /** What runs took beside what the costs say. */
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
    if (size.calls % RUN === 0) beginRun(size, expected);
    size.calls++;
    const { way, readings } = size;
    // Another call of the run may have had smaller pieces.
    if (expected[way] === Number.POSITIVE_INFINITY) return { way: 'threads', took: () => {} };
    return { way, took: (ms) => readings.push(ms / expected[way]) };
  }

  #sizeOf(ms: number): Size {
    const key = Math.round(Math.log2(ms));
    const known = this.#sizes.get(key);
    if (known) return known;
    const size: Size = {
      calls: 0,
      way: 'inline',
      readings: [],
      ratios: { inline: 1, joined: 1, threads: 1 },
    };
    this.#sizes.set(key, size);
    return size;
  }
}

function beginRun(size: Size, expected: Readonly<Record<Way, number>>): void {
  const { readings, ratios } = size;
  // The median one: what others who use the machine add to single calls does not count.
  const median = readings.sort((a, b) => a - b)[readings.length >> 1];
  if (median !== undefined) ratios[size.way] += WEIGHT * (median - ratios[size.way]);
  const best = WAYS.reduce((best, way) =>
    expected[way] * ratios[way] < expected[best] * ratios[best] ? way : best,
  );
  const others = WAYS.filter((way) => way !== best && expected[way] <= MOST_TRIED * expected[best]);
  const run = size.calls / RUN;
  const of = run < SOON ? TRY_OF.soon : TRY_OF.later;
  const tries = run % of === of - 1;
  const other = others[Math.floor(run / of) % others.length];
  size.way = tries && other ? other : best;
  size.readings = [];
}
