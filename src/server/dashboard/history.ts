import type { RoutingReport, WindowReport } from './api.js';

/** Points that are kept: five minutes, one a second. */
const POINTS = 300;
/** A longer silence than this is drawn as a gap. */
const GAP_SECONDS = 3;

export type Measure = 'maxVio' | 'dropRate' | 'balance';

/** Over the ten seconds before a point; null where no token passed in them. */
const MEASURES: Readonly<Record<Measure, (report: WindowReport) => number | null>> = {
  maxVio: ({ imbalance }) => imbalance.maxVio ?? null,
  dropRate: ({ dropRate }) => dropRate * 100,
  balance: ({ losses }) => losses.switch ?? null,
};

interface Point {
  /** Seconds since 1970. */
  readonly at: number;
  readonly tokens: number | null;
  /** [L] */
  readonly layers: Readonly<Record<Measure, readonly (number | null)[]>>;
}

/** The last minutes of every layer, as seen by this page. */
export class History {
  #points: Point[] = [];

  get size(): number {
    return this.#points.length;
  }

  push({ at, layers }: RoutingReport): void {
    const seconds = at / 1_000;
    const last = this.#points.at(-1);
    if (last && seconds <= last.at) return;
    if (last && seconds - last.at > GAP_SECONDS) this.#points.push(gap(last.at + 1, layers.length));
    // A second has too few tokens to tell an imbalance from chance.
    const now = layers.map(({ windows }) => windows['10s']);
    const of = (measure: Measure) =>
      now.map((report) => (report.tokens > 0 ? MEASURES[measure](report) : null));
    this.#points.push({
      at: seconds,
      tokens: layers[0]?.windows['1s'].tokens ?? 0,
      layers: { maxVio: of('maxVio'), dropRate: of('dropRate'), balance: of('balance') },
    });
    this.#points.splice(0, this.#points.length - POINTS);
  }

  times(): number[] {
    return this.#points.map(({ at }) => at);
  }

  tokens(): (number | null)[] {
    return this.#points.map(({ tokens }) => tokens);
  }

  measure(name: Measure, layer: number): (number | null)[] {
    return this.#points.map(({ layers }) => layers[name][layer] ?? null);
  }
}

function gap(at: number, layers: number): Point {
  const none = Array.from({ length: layers }, () => null);
  return { at, tokens: null, layers: { maxVio: none, dropRate: none, balance: none } };
}
