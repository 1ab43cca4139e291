import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { unroutableRows } from '#turnout/router/kernels/unroutable.js';
import { table } from '../../support/routing.js';

describe('unroutableRows', () => {
  it('finds rows with NaN, with infinity, and of nothing but -infinity, wherever it stands', () => {
    const value = fc.oneof(
      { weight: 8, arbitrary: fc.float({ noNaN: true, noDefaultInfinity: true }) },
      { weight: 4, arbitrary: fc.constant(-Infinity) },
      { weight: 1, arbitrary: fc.constantFrom(Number.NaN, Infinity) },
    );
    const rows = fc
      .integer({ min: 1, max: 12 })
      .chain((E) => fc.array(fc.array(value, { minLength: E, maxLength: E }), { maxLength: 6 }));
    fc.assert(
      fc.property(rows, (logits) => {
        const bad = logits.flatMap((row, t) =>
          row.some((x) => Number.isNaN(x) || x === Infinity) || row.every((x) => x === -Infinity) ? [t] : [],
        );
        expect(unroutableRows(table(logits, logits[0]?.length ?? 3))).toEqual(bad);
      }),
      { numRuns: 300 },
    );
  });

  it('finds them beyond the first block too', () => {
    const rows = Array.from({ length: 3000 }, (_, t) => [0, 1, 2, 3, t === 2999 ? Number.NaN : 4, 5, 6, 7]);
    expect(unroutableRows(table(rows))).toEqual([2999]);
  });
});
