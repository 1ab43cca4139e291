import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { createRouter } from '#turnout/router/create.js';
import { presetOptions } from '#turnout/router/presets.js';
import { assignments, expertsOf, route, table } from '../../support/routing.js';

const matrix = fc.tuple(fc.integer({ min: 1, max: 6 }), fc.integer({ min: 0, max: 12 })).chain(([E, T]) =>
  fc.record({
    E: fc.constant(E),
    logits: fc.array(fc.array(fc.double({ min: -4, max: 4, noNaN: true }), { minLength: E, maxLength: E }), {
      minLength: T,
      maxLength: T,
    }),
    factor: fc.double({ min: 0.1, max: 6, noNaN: true }),
  }),
);

describe('expert choice', () => {
  it('gives each expert its floor(c * n / e) best tokens of each sequence', () => {
    const logits = [
      [3, 0],
      [2, 1],
      [1, 2],
      [0, 3],
    ];
    const routing = route(presetOptions('expert-choice', { factor: 1 }), logits);
    expect(expertsOf(routing)).toEqual([[0], [0], [1], [1]]);
    expect(routing.groups).toEqual([{ start: 0, length: 4, capacity: 2 }]);
    expect(routing.weight[0]).toBeCloseTo(1 / (1 + Math.exp(-3)), 6);
    const two = route(presetOptions('expert-choice', { factor: 1 }), logits, {
      sequences: [{ length: 2 }, { length: 2 }],
    });
    expect(two.groups.map(({ capacity }) => capacity)).toEqual([1, 1]);
    expect(expertsOf(two)).toEqual([[0], [1], [0], [1]]);
  });

  it('lets all tokens of a call compete in scope call', () => {
    const logits = [
      [5, 0],
      [4, 0],
      [0, 0],
      [0, 0],
    ];
    const call = route(presetOptions('expert-choice', { factor: 1, scope: 'call' }), logits, {
      sequences: [{ length: 2 }, { length: 2 }],
    });
    expect(expertsOf(call)).toEqual([[0], [0], [1], [1]]);
  });

  it('fills every expert exactly, with distinct tokens that are the best of their column', () => {
    fc.assert(
      fc.property(matrix, ({ E, logits, factor }) => {
        const options = presetOptions('expert-choice', { factor, score: 'sigmoid' });
        const routing = createRouter(options, E).route({ logits: table(logits, E) });
        const T = logits.length;
        const capacity = Math.min(T, Math.max(1, Math.floor((factor * T) / E)));
        const all = assignments(routing);
        for (let e = 0; e < E; e++) {
          const own = all.filter(({ expert }) => expert === e);
          expect(own.length).toBe(capacity);
          expect(new Set(own.map(({ token }) => token)).size).toBe(capacity);
          expect(own.map(({ slot }) => slot).sort((a, b) => a - b)).toEqual([...own.keys()]);
          const least = Math.min(...own.map(({ score }) => score));
          const left = logits.map((_, t) => t).filter((t) => own.every(({ token }) => token !== t));
          for (const t of left) expect(routing.scores.data[t * E + e]).toBeLessThanOrEqual(least);
        }
        expect(all.every(({ weight, score, reason }) => weight === score && reason === 'kept')).toBe(true);
      }),
      { numRuns: 300 },
    );
  });

  it('orders the experts of a token by score', () => {
    const routing = route(presetOptions('expert-choice', { factor: 3 }), [[1, 3, 2]]);
    expect(assignments(routing).map(({ choice, expert }) => [choice, expert])).toEqual([
      [0, 1],
      [1, 2],
      [2, 0],
    ]);
  });

  it('gives a bad row and a forbidden expert nothing', () => {
    const routing = route(presetOptions('expert-choice', { factor: 2 }), [
      [Number.NaN, 9],
      [-Infinity, 1],
      [0, 0],
    ]);
    expect(expertsOf(routing)).toEqual([[], [1], [0, 1]]);
    expect(routing.badRows).toMatchObject([{ row: 0, problem: 'nan' }]);
  });

  it('is not causal', () => {
    const router = createRouter(presetOptions('expert-choice'), 4);
    expect(router.causal).toBe(false);
    expect(router.notCausalBecause).toContain('expert-choice');
  });
});
