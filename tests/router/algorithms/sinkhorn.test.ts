import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { createRouter } from '#turnout/router/create.js';
import { presetOptions } from '#turnout/router/presets.js';
import { assignments, expertsOf, route, table } from '../../support/routing.js';

/** The balancing loop as the sources write it, without any care for large logits: the matrix that top-k is taken of. */
function balanceNaively(logits: readonly (readonly number[])[], rounds: number): number[][] {
  const [T, E] = [logits.length, logits[0].length];
  let matrix = logits.map((row) => row.map(Math.exp));
  for (let i = 0; i < rounds; i++) {
    matrix = matrix.map((row) => {
      const sum = row.reduce((a, b) => a + b, 0);
      return row.map((x) => x / (sum * T));
    });
    const sums = Array.from({ length: E }, (_, e) => matrix.reduce((a, row) => a + row[e], 0));
    matrix = matrix.map((row) => row.map((x, e) => x / (sums[e] * E)));
  }
  return matrix;
}

const bestOf = (row: readonly number[]) => row.indexOf(Math.max(...row));

describe('sinkhorn, top-k of the balanced matrix', () => {
  it('is the naive loop', () => {
    const rows = fc.integer({ min: 2, max: 6 }).chain((E) =>
      fc.array(fc.array(fc.double({ min: -2, max: 2, noNaN: true }), { minLength: E, maxLength: E }), {
        minLength: 1,
        maxLength: 12,
      }),
    );
    fc.assert(
      fc.property(rows, (logits) => {
        const options = presetOptions('sinkhorn', { iterations: 40, tolerance: 0 });
        const routing = route(options, logits);
        const balanced = balanceNaively(logits, 40);
        expectsOfBest(expertsOf(routing), balanced);
      }),
      { numRuns: 200 },
    );
  });

  it('spreads tokens that all prefer one expert, and weighs by their own logits', () => {
    const logits = [
      [4, 3, 0],
      [4, 1, 0],
      [4, 0, 3],
    ];
    const routing = route(presetOptions('sinkhorn'), logits);
    expect(expertsOf(routing)).toEqual([[1], [0], [2]]);
    expect(routing.weight[0]).toBeCloseTo(1 / (1 + Math.exp(-3)), 6);
    expect(routing.score[2]).toBeCloseTo(1 / (1 + Math.exp(-3)), 6);
  });

  it('does not overflow on large logits', () => {
    const logits = [
      [2000, 1999],
      [2000, 1000],
    ];
    expect(expertsOf(route(presetOptions('sinkhorn'), logits))).toEqual([[1], [0]]);
  });

  it('balances each sequence alone in scope sequence', () => {
    const logits = [
      [3, 2],
      [3, 0],
      [9, 0],
    ];
    const alone = route(presetOptions('sinkhorn', { scope: 'sequence' }), logits, {
      sequences: [{ length: 2 }, { length: 1 }],
    });
    expect(expertsOf(alone).slice(0, 2)).toEqual(
      expertsOf(route(presetOptions('sinkhorn', { scope: 'sequence' }), logits.slice(0, 2))),
    );
  });

  it('keeps a capacity, and can send overflow to the next expert of the balanced matrix', () => {
    const logits = Array.from({ length: 4 }, () => [5, 0]);
    const admit = { formula: 'fixed', capacity: 1, scope: 'call' } as const;
    const routing = route(
      presetOptions('sinkhorn', { iterations: 1, admit: { ...admit, overflow: 'next-best' } }),
      logits,
    );
    const counts = assignments(routing).filter(({ reason }) => reason === 'kept');
    expect(counts.map(({ expert }) => expert).sort()).toEqual([0, 1]);
  });
});

describe('sinkhorn, balanced assignment (BASE)', () => {
  it('gives every expert the same number of tokens, for the largest sum of logits', () => {
    const logits = [
      [9, 8],
      [9, 1],
      [9, 0],
      [9, 7],
    ];
    const routing = route(presetOptions('base'), logits);
    expect(expertsOf(routing)).toEqual([[1], [0], [0], [1]]);
    expect(routing.weight[1]).toBeCloseTo(1 / (1 + Math.exp(-9)), 6);
  });

  it('leaves bad rows out of the balance', () => {
    const routing = route(presetOptions('base'), [
      [9, 8],
      [Number.NaN, 0],
      [9, 1],
    ]);
    expect(expertsOf(routing)).toEqual([[1], [], [0]]);
  });

  it.each([
    [{ k: 2 }, 'expected k = 1, got 2'],
    [{ iterations: 3 }, 'the assignment is exact'],
  ])('refuses %j', (over, message) => {
    expect(() => createRouter(presetOptions('base', over), 4)).toThrow(
      expect.objectContaining({
        code: 'TURNOUT_OPTIONS_INVALID',
        message: expect.stringContaining(message),
      }),
    );
  });

  it('is not causal, and says why', () => {
    expect(createRouter(presetOptions('base'), 4)).toMatchObject({
      causal: false,
      notCausalBecause: expect.stringContaining('later ones'),
    });
    expect(createRouter(presetOptions('sinkhorn'), 4).notCausalBecause).toContain('call');
  });

  it('routes no rows', () => {
    for (const name of ['base', 'sinkhorn'] as const) {
      expect(createRouter(presetOptions(name), 3).route({ logits: table([], 3) }).token).toHaveLength(0);
    }
  });
});

/** Where two columns of the balanced matrix are equal but for rounding, either is the best. */
function expectsOfBest(chosen: readonly number[][], balanced: readonly number[][]): void {
  chosen.forEach(([expert], t) => {
    const best = balanced[t][bestOf(balanced[t])];
    expect(balanced[t][expert]).toBeGreaterThan(best * (1 - 1e-5));
  });
}
