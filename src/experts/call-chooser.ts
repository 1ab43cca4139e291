import { type CallCosts, type CallRows, expectedOf, type MostHere, type Way, workMs } from './call-costs.js';

const WAYS = ['inline', 'joined', 'threads'] as const;

/**
 * Calls that go one way before it is chosen anew. The later half of them counts: before, threads wake up, and the caches
 * fill with the weights of those who compute now.
 */
const RUN = 32;
/** Weight of a run in what is learnt; the first one of a way tells all that is known of it. */
const WEIGHT = 0.5;
/** The first runs try each way, but for those that take so many times the best by the costs: others may have disturbed what they come from. */
const MOST_FIRST = 3;
/** Then one run in so many tries another way, if that takes no more than so many times the best by what is learnt. */
const TRY_OF = 16;
const MOST_TRIED = 1.5;
/** For calls of more work costs decide alone: waking threads is little beside them, and a wrong way much. */
const MOST_LEARNT_MS = 2;

/** What runs took beside what the costs say; as much until a way has been tried. */
type Ratios = Partial<Record<Way, number>>;

/** Calls of about the same length. */
interface Size {
  calls: number;
  /** Of the run under way, and what its calls took beside what the costs say. */
  way: Way;
  readings: number[];
  readonly ratios: Ratios;
}

/**
 * Chooses where each call is over soonest: by costs that were measured before the first one and, where it is short, by
 * what others of about the same length have taken since. Costs alone do not tell how soon calls follow each other, and
 * code becomes faster while it runs.
 */
export class CallChooser {
  readonly #costs: CallCosts;
  readonly #mostHere: MostHere;
  readonly #sizes = new Map<number, Size>();

  constructor(costs: CallCosts, mostHere: MostHere) {
    this.#costs = costs;
    this.#mostHere = mostHere;
  }

  /** The way of the next call; `took` is to be told how many milliseconds it was under way, where it was alone. */
  choose(call: CallRows): { readonly way: Way; took(ms: number): void } {
    const expected = expectedOf(this.#costs, call, this.#mostHere);
    const work = workMs(this.#costs, call);
    if (work > MOST_LEARNT_MS) return { way: bestOf(expected), took: () => {} };
    const size = this.#sizeOf(work);
    if (size.calls % RUN === 0) beginRun(size, expected);
    const counts = size.calls++ % RUN >= RUN / 2;
    const { way, readings } = size;
    const took = (ms: number) => {
      if (counts) readings.push(ms / expected[way]);
    };
    return { way, took };
  }

  #sizeOf(ms: number): Size {
    const key = Math.round(Math.log2(ms));
    const known = this.#sizes.get(key);
    if (known) return known;
    const size: Size = {
      calls: 0,
      way: 'inline',
      readings: [],
      ratios: {},
    };
    this.#sizes.set(key, size);
    return size;
  }
}

function beginRun(size: Size, expected: Readonly<Record<Way, number>>): void {
  const { readings, ratios } = size;
  // The median one: what others who use the machine add to single calls does not count.
  const median = readings.sort((a, b) => a - b)[readings.length >> 1];
  if (median !== undefined) {
    const before = ratios[size.way] ?? median;
    ratios[size.way] = before + WEIGHT * (median - before);
  }
  size.way = nextWay(size.calls / RUN, expected, ratios);
  size.readings = [];
}

/** Each way that may be the best in the first runs, the most likely one first; then what is the best, and now and then another. */
function nextWay(run: number, expected: Readonly<Record<Way, number>>, ratios: Readonly<Ratios>): Way {
  const least = expected[bestOf(expected)];
  const likely = WAYS.filter((way) => expected[way] <= MOST_FIRST * least);
  if (run < likely.length) return likely.toSorted((a, b) => expected[a] - expected[b])[run]!;
  const learnt = learntOf(expected, ratios);
  const best = bestOf(learnt);
  const others = likely.filter((way) => way !== best && learnt[way] <= MOST_TRIED * learnt[best]);
  const tries = run % TRY_OF === TRY_OF - 1;
  return (tries && others[Math.floor(run / TRY_OF) % others.length]) || best;
}

/** Milliseconds that a call takes each way, as far as that is learnt. */
function learntOf(expected: Readonly<Record<Way, number>>, ratios: Readonly<Ratios>): Record<Way, number> {
  const learnt = { ...expected };
  for (const way of WAYS) learnt[way] *= ratios[way] ?? 1;
  return learnt;
}

function bestOf(ms: Readonly<Record<Way, number>>): Way {
  return WAYS.reduce((best, way) => (ms[way] < ms[best] ? way : best));
}
