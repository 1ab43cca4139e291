/** A point of quality and cost: less is better in both. */
export interface Point {
  readonly bits: number;
  readonly cost: number;
}

/** Which points no other one beats: as good in both, and better in one. Equal points stand or fall together. */
export function paretoFront(points: readonly Point[]): boolean[] {
  return points.map(
    (own) =>
      !points.some(
        (other) =>
          other.bits <= own.bits &&
          other.cost <= own.cost &&
          (other.bits < own.bits || other.cost < own.cost),
      ),
  );
}
