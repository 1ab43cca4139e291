import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { balancedAssignment } from '#turnout/router/algorithms/balanced-assignment.js';
import { table } from '../../support/routing.js';

/** The largest sum of logits over all assignments whose loads differ by at most one, by trying each of them. */
function bruteForce(logits: readonly (readonly number[])[], E: number): number {
  const T = logits.length;
  let best = -Infinity;
  const load = new Array<number>(E).fill(0);
  const place = (t: number, sum: number): void => {
    if (t === T) {
      if (Math.max(...load) - Math.min(...load) <= 1) best = Math.max(best, sum);
      return;
    }
    for (let e = 0; e < E; e++) {
      load[e]++;
      place(t + 1, sum + logits[t][e]);
      load[e]--;
    }
  };
  place(0, 0);
  return best;
}

const rows = (logits: readonly unknown[]) => logits.map((_, t) => t);
const loads = (experts: Int32Array, E: number) =>
  Array.from({ length: E }, (_, e) => experts.filter((own) => own === e).length);

describe('balancedAssignment', () => {
  it('has the largest sum of logits among all assignments with equal loads', () => {
    const small = fc.integer({ min: 1, max: 4 }).chain((E) =>
      fc.tuple(
        fc.constant(E),
        fc.array(fc.array(fc.integer({ min: -9, max: 9 }), { minLength: E, maxLength: E }), {
          maxLength: 6,
        }),
      ),
    );
    fc.assert(
      fc.property(small, ([E, logits]) => {
        const chosen = balancedAssignment(table(logits, E), rows(logits));
        const load = loads(chosen, E);
        expect(load.reduce((a, b) => a + b, 0)).toBe(logits.length);
        expect(Math.max(...load) - Math.min(...load)).toBeLessThanOrEqual(1);
        const sum = logits.reduce((total, row, t) => total + row[chosen[t]], 0);
        expect(sum).toBe(bruteForce(logits, E));
      }),
      { numRuns: 500 },
    );
  });

  it('moves earlier tokens along a chain to make room for a later one', () => {
    const logits = [
      [9, 8, 0],
      [0, 9, 8],
      [9, 0, 0],
    ];
    expect([...balancedAssignment(table(logits), [0, 1, 2])]).toEqual([1, 2, 0]);
  });

  it('spreads thousands of tokens that all want one expert', () => {
    const [T, E] = [4096, 64];
    const logits = Array.from({ length: T }, (_, t) =>
      Array.from({ length: E }, (_, e) => (e === 0 ? 5 : 0) + Math.sin(t * 12.9898 + e * 78.233)),
    );
    const load = loads(balancedAssignment(table(logits), rows(logits)), E);
    expect(new Set(load)).toEqual(new Set([T / E]));
  });

  it('never takes a forbidden expert, and leaves out a row whose experts are full', () => {
    const only = [1, -Infinity];
    expect([...balancedAssignment(table([only, only, only, [0, 3]]), [0, 1, 2, 3])]).toEqual([0, 0, -1, 1]);
  });
});
