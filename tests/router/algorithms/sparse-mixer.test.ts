import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { createRouter } from '#turnout/router/create.js';
import { presetOptions } from '#turnout/router/presets.js';
import { expertsOf, route, weightsOf } from '../../support/routing.js';

/** SparseMixer at inference as its authors write it for a matrix: mask, softmax, gather, mask the first, again. */
function sparsemixer(row: readonly number[], jitter: number): [experts: number[], weights: number[]] {
  const experts: number[] = [];
  const weights: number[] = [];
  let left = [...row];
  for (let c = 0; c < 2; c++) {
    const top = Math.max(...left);
    const best = left.indexOf(top);
    const masked = left.map((x, e) =>
      (top - row[e]) / Math.max(Math.abs(row[e]), top) > 2 * jitter ? -Infinity : x,
    );
    const mass = masked.map((x) => Math.exp(x - top));
    experts.push(best);
    weights.push(mass[best] / mass.reduce((a, b) => a + b, 0));
    left = left.map((x, e) => (e === best ? -Infinity : x));
  }
  return [experts, weights];
}

describe('sparse mixer', () => {
  it('weighs each choice among its near rivals alone', () => {
    const routing = route(presetOptions('phi-moe'), [[2, 1.99, 1, 0.5]]);
    expect(expertsOf(routing)).toEqual([[0, 1]]);
    // 1.99 is within 2 % of 2 and shares the first softmax; among the rest nothing is near 1.99.
    expect(weightsOf(routing)[0][0]).toBeCloseTo(1 / (1 + Math.exp(-0.01)), 6);
    expect(weightsOf(routing)[0][1]).toBe(1);
  });

  it('is the formula of its authors', () => {
    const values = fc.array(fc.integer({ min: -200, max: 200 }), { minLength: 2, maxLength: 8 });
    fc.assert(
      fc.property(values, fc.constantFrom(0, 0.01, 0.1, 0.4), (numbers, jitter) => {
        const row = numbers.map((x) => x / 64);
        const routing = route(presetOptions('phi-moe', { jitter }), [row]);
        const [experts, weights] = sparsemixer(row, jitter);
        expect(expertsOf(routing)).toEqual([experts]);
        weightsOf(routing)[0].forEach((weight, c) => {
          expect(weight).toBeCloseTo(weights[c], 5);
        });
      }),
      { numRuns: 500 },
    );
  });

  it('takes the one expert that a row allows', () => {
    const routing = route(presetOptions('phi-moe'), [[-Infinity, 1, -Infinity]]);
    expect([expertsOf(routing), weightsOf(routing)]).toEqual([[[1]], [[1]]]);
  });

  it('has two choices at most', () => {
    expect(() => createRouter(presetOptions('phi-moe', { k: 3 }), 4)).toThrow(
      expect.objectContaining({ code: 'TURNOUT_CHOICES_INVALID' }),
    );
  });

  it('drops above a capacity, and a moved token weighs by its softmax score', () => {
    const admit = { formula: 'fixed', capacity: 1, scope: 'call' } as const;
    const rows = [
      [3, 0, 2],
      [3, 0, 1],
    ];
    const dropped = route(presetOptions('phi-moe', { k: 1, admit }), rows);
    expect(weightsOf(dropped)).toEqual([[1], [0]]);
    const moved = route(presetOptions('phi-moe', { k: 1, admit: { ...admit, overflow: 'next-best' } }), rows);
    expect(expertsOf(moved)).toEqual([[0], [2]]);
    expect(weightsOf(moved)[1][0]).toBeCloseTo(Math.exp(1) / (Math.exp(3) + 1 + Math.exp(1)), 6);
  });
});
