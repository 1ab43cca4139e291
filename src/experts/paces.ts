/** Weight of a call in the average: some five calls tell of a core that others use too, one odd call does not. */
const WEIGHT = 0.3;
/** Cost below which a lane's time says more about the call than about the lane. */
const MIN_COST = 64;

/** What one lane computed of a call. */
export interface Share {
  readonly lane: object;
  /** In rows, calls included; see `pieceCost`. */
  readonly cost: number;
  readonly ms: number;
}

/** How fast lanes are beside each other, learnt from the calls that they share: 1 is the mean, 2 takes twice as long. */
export class Paces {
  readonly #paces = new WeakMap<object, number>();

  of(lane: object): number {
    return this.#paces.get(lane) ?? 1;
  }

  /** Only lanes of one call are compared, for calls of few rows and of many differ more than lanes do. */
  learn(shares: readonly Share[]): void {
    if (shares.length < 2 || shares.some(({ cost, ms }) => cost < MIN_COST || !(ms > 0))) return;
    const rates = shares.map(({ cost, ms }) => ms / cost);
    const mean = rates.reduce((sum, rate) => sum + rate, 0) / rates.length;
    for (const [i, { lane }] of shares.entries()) {
      const before = this.of(lane);
      this.#paces.set(lane, before + WEIGHT * (rates[i]! / mean - before));
    }
  }
}
