import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { topColumns } from '#turnout/router/kernels/top-k.js';
import { table } from '../../support/routing.js';

const NO = -Infinity;
type Ties = 'lower' | 'higher';

const top = (values: number[], k: number, ties?: Ties) => [...topColumns(table([values]), k, ties)];

/** All columns by falling value, then by index, without the forbidden ones. */
function sorted(values: readonly number[], k: number, ties: Ties): number[] {
  const columns = values.map((_, e) => e).filter((e) => values[e] !== NO);
  const sign = ties === 'lower' ? 1 : -1;
  columns.sort((a, b) => values[b]! - values[a]! || sign * (a - b));
  return Array.from({ length: k }, (_, c) => columns[c] ?? -1);
}

describe('topColumns', () => {
  it('gives the largest, best first', () => {
    expect(top([0, 3, 1, 2], 3)).toEqual([1, 3, 2]);
    expect(top([5, 4, 3], 3)).toEqual([0, 1, 2]);
  });

  it('gives ties to the lower index, or to the higher one', () => {
    expect(top([1, 2, 2, 2, 0], 2)).toEqual([1, 2]);
    expect(top([1, 2, 2, 2, 0], 2, 'higher')).toEqual([3, 2]);
    expect(top([0, 0, 0], 3, 'higher')).toEqual([2, 1, 0]);
    expect(top([-0, 0], 1)).toEqual([0]);
  });

  it('never takes -infinity, and takes the least of all others', () => {
    expect(top([NO, 1, NO], 2)).toEqual([1, -1]);
    expect(top([NO, NO], 1)).toEqual([-1]);
    expect(top([NO, -3.4028234663852886e38], 2)).toEqual([1, -1]);
    expect([...topColumns(table([], 3), 2)]).toEqual([]);
  });

  it('is a sort of each row, for every size, with and without ties', () => {
    const value = fc.oneof(
      fc.integer({ min: -3, max: 3 }),
      fc.float({ noNaN: true }),
      fc.constantFrom(NO, Infinity),
    );
    const cases = fc
      .record({ E: fc.integer({ min: 1, max: 70 }), T: fc.integer({ min: 1, max: 5 }) })
      .chain(({ E, T }) =>
        fc.record({
          rows: fc.array(fc.array(value, { minLength: E, maxLength: E }), { minLength: T, maxLength: T }),
          k: fc.integer({ min: 1, max: E }),
          ties: fc.constantFrom('lower' as const, 'higher' as const),
        }),
      );
    fc.assert(
      fc.property(cases, ({ rows, k, ties }) => {
        expect([...topColumns(table(rows), k, ties)]).toEqual(rows.flatMap((row) => sorted(row, k, ties)));
      }),
      { numRuns: 300 },
    );
  });

  it('is the same where the rows do not fit one block, or one row does not', () => {
    const wide = (T: number, E: number) =>
      Array.from({ length: T }, (_, t) =>
        Array.from({ length: E }, (_, e) => Math.fround(Math.sin(t + e * e))),
      );
    for (const rows of [wide(300, 130), wide(2, 40_000)]) {
      expect([...topColumns(table(rows), 5)]).toEqual(rows.flatMap((row) => sorted(row, 5, 'lower')));
    }
  });
});
