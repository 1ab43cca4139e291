import { TurnoutError } from '../errors.js';
import { LoadSums, type WindowLoad } from './load-sums.js';
import { asLayerCall, checkOption } from './load-tracker.js';
import { reportRouting } from './report.js';

export interface LoadHistoryOptions {
  /** Milliseconds of one bucket, up to an hour; 1,000 where left out. */
  readonly bucketMs?: number;
  /** Whole buckets that are kept behind the one under way; 300 where left out. */
  readonly buckets?: number;
  /** A clock that never goes back, in milliseconds. */
  readonly now?: () => number;
}

/** One layer since the start, and over each window that was asked for, in the order asked. */
export interface LayerHistory {
  readonly total: WindowLoad;
  readonly windows: readonly WindowLoad[];
}

/** The counts of a bucket have 32 bits: an hour of a million tokens a second fits. */
const MAX_BUCKET_MS = 3_600_000;
/** A day of seconds; for each of them every layer keeps its counts. */
const MAX_BUCKETS = 86_400;

/** The calls of one span of time; `number` counts the spans since time 0. */
interface Bucket {
  number: number;
  readonly sums: LoadSums;
}

interface Layer {
  readonly total: LoadSums;
  /** Bucket n stands at n modulo the length, over the one that was there before. */
  readonly ring: (Bucket | undefined)[];
}

/**
 * Follows load, drops, losses and imbalance of each layer in buckets of time, for processes that run for months: its
 * memory depends on layers, experts and buckets, never on calls. It listens to the diagnostics channel `turnout:layer`
 * as it is: `subscribe('turnout:layer', history.record)`.
 */
export class LoadHistory {
  readonly #bucketMs: number;
  readonly #buckets: number;
  readonly #now: () => number;
  readonly #layers = new Map<number, Layer>();

  /** Throws TURNOUT_OPTIONS_INVALID. */
  constructor(options: LoadHistoryOptions = {}) {
    const { bucketMs = 1000, buckets = 300, now } = options;
    checkOption(
      'bucketMs',
      bucketMs,
      bucketMs > 0 && bucketMs <= MAX_BUCKET_MS,
      `a number above 0, at most ${MAX_BUCKET_MS}`,
    );
    checkOption(
      'buckets',
      buckets,
      Number.isInteger(buckets) && buckets >= 1 && buckets <= MAX_BUCKETS,
      `a whole number from 1 to ${MAX_BUCKETS}`,
    );
    this.#bucketMs = bucketMs;
    this.#buckets = buckets;
    this.#now = now ?? (() => performance.now());
  }

  /**
   * Takes in one call of one layer. Bound, so that it can be handed on as a listener. Throws TURNOUT_INPUT_INVALID for
   * other messages, TURNOUT_SHAPE_MISMATCH where the layer had another number of experts before.
   */
  readonly record = (message: unknown): void => {
    const { layer, routing } = asLayerCall(message);
    const { experts, tokens } = routing;
    const known = this.#layers.get(layer) ?? this.#start(layer, experts);
    if (known.total.experts !== experts) throw otherExperts(layer, known.total.experts, experts);
    const report = reportRouting(routing);
    known.total.add(report, tokens);
    this.#bucket(known).add(report, tokens);
  };

  /**
   * Layer -> what it did since the start and over the last milliseconds of each window, for every layer that was
   * recorded. A window begins with the bucket that it begins in and includes the one under way, so it holds everything
   * of its time and at most one bucket more. Throws TURNOUT_OPTIONS_INVALID for a window longer than the ring.
   */
  snapshot(windows: readonly number[] = []): ReadonlyMap<number, LayerHistory> {
    const longest = this.#buckets * this.#bucketMs;
    for (const window of windows) {
      checkOption(
        'window',
        window,
        window > 0 && window <= longest,
        `milliseconds above 0, at most the ${longest} that are kept`,
      );
    }
    const now = this.#now();
    const firsts = windows.map((window) => Math.floor((now - window) / this.#bucketMs));
    const result = new Map<number, LayerHistory>();
    for (const [layer, known] of this.#layers) {
      result.set(layer, {
        total: known.total.read(),
        windows: firsts.map((first) => sumSince(known, first)),
      });
    }
    return result;
  }

  #start(layer: number, experts: number): Layer {
    const started = { total: new LoadSums(experts), ring: new Array<undefined>(this.#buckets + 1) };
    this.#layers.set(layer, started);
    return started;
  }

  /** The sums of the bucket under way, emptied where an older one stands in its place. */
  #bucket({ total, ring }: Layer): LoadSums {
    const number = Math.floor(this.#now() / this.#bucketMs);
    const place = number % (this.#buckets + 1);
    const bucket = ring[place] ?? { number, sums: new LoadSums(total.experts, 'short') };
    ring[place] = bucket;
    if (bucket.number !== number) {
      bucket.number = number;
      bucket.sums.clear();
    }
    return bucket.sums;
  }
}

/** What is kept from bucket `first` on. Buckets without calls may still hold those of an earlier round of the ring. */
function sumSince({ total, ring }: Layer, first: number): WindowLoad {
  const sums = new LoadSums(total.experts);
  for (const bucket of ring) if (bucket && bucket.number >= first) sums.merge(bucket.sums);
  return sums.read();
}

function otherExperts(layer: number, expected: number, got: number): TurnoutError {
  return new TurnoutError(
    'TURNOUT_SHAPE_MISMATCH',
    `layer ${layer}: expected ${expected} experts as in the calls before, got ${got}`,
    { layer, expected, got },
  );
}
