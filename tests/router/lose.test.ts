import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { createRouter } from '#turnout/router/create.js';
import { loadOf } from '#turnout/router/load.js';
import { loseExperts } from '#turnout/router/lose.js';
import { parseOptions } from '#turnout/router/options.js';
import { planDispatch } from '#turnout/router/plan.js';
import type { Routing } from '#turnout/router/routing.js';
import { joinRoutings, sliceRouting } from '#turnout/router/slice.js';
import { cases } from '../support/arbitrary.js';
import { type Assignment, assignments, kept, plain, route, table, weightsOf } from '../support/routing.js';

const RUNS = { numRuns: 300 };

/** A routing of any rule and some of its experts. */
const losses = cases().chain(({ options, E, logits, lengths }) =>
  fc.record({
    routing: fc.constant(
      createRouter(options, E).route({
        logits: table(logits, E),
        sequences: lengths.map((length) => ({ length })),
      }),
    ),
    lost: fc.subarray([...Array(E).keys()]),
  }),
);

const sum = (of: readonly Assignment[]) => of.reduce((all, { weight }) => all + weight, 0);

/** The kept assignments of token `t`. */
const keptOf = (routing: Routing, t: number) => kept(routing).filter(({ token }) => token === t);

const top2 = plain({ select: { k: 2 } });

describe('loseExperts', () => {
  it('drops what the lost expert had, and gives its weight to the others of the token', () => {
    const before = route(plain({ select: { k: 3 } }), [
      [4, 3, 1, 0],
      [1, 0, 2, 5],
    ]);
    const after = loseExperts(before, [1]);
    expect(assignments(after).slice(0, 3)).toEqual([
      { token: 0, choice: 0, expert: 0, score: 4, weight: expect.closeTo(6.4, 5), slot: 0, reason: 'kept' },
      { token: 0, choice: 1, expert: 1, score: 3, weight: 0, slot: -1, reason: 'lost' },
      { token: 0, choice: 2, expert: 2, score: 1, weight: expect.closeTo(1.6, 5), slot: 0, reason: 'kept' },
    ]);
    expect(assignments(after).slice(3)).toEqual(assignments(before).slice(3));
    expect(loadOf(after)).toMatchObject({ load: [2, 1, 2, 1], kept: [2, 0, 2, 1], dropped: { lost: 1 } });
  });

  it('stands in the plan among the other drops, in the order of the assignments', () => {
    const options = plain({ select: { k: 2 }, admit: { formula: 'fixed', capacity: 1 } });
    const rows = [
      [3, 2, 0],
      [3, 0, 1],
    ];
    const plan = planDispatch(loseExperts(route(options, rows), [1]));
    expect(plan.dropped).toEqual([
      { token: 0, choice: 1, expert: 1, reason: 'lost' },
      { token: 1, choice: 0, expert: 0, reason: 'capacity' },
    ]);
    expect([...plan.offsets]).toEqual([0, 1, 1, 2]);
    expect([...plan.weights]).toEqual([5, 1]);
  });

  it('loses several experts at once; a token without any other is left with nothing', () => {
    const rows = [
      [2, 3, 0, 0],
      [0, 1, 0, 4],
    ];
    expect(weightsOf(loseExperts(route(top2, rows), [0, 1]))).toEqual([
      [0, 0],
      [5, 0],
    ]);
  });

  it('keeps the weights of the others where they were on the input: those rows were computed with them', () => {
    const options = plain({ select: { k: 2 }, weigh: { by: 'score', on: 'input' } });
    expect(weightsOf(loseExperts(route(options, [[2, 3, 0]]), [1]))).toEqual([[0, 2]]);
  });

  it.each([
    ['sum to 0', [0, 3, -9], [1], [0, 0]],
    ['have both signs, so that their sum is no measure', [3, 2, -1], [0], [0, 2, -1]],
  ])('keeps the weights of the others where they %s', (_, row, lost, expected) => {
    const options = plain({ select: { k: expected.length } });
    expect(weightsOf(loseExperts(route(options, [row]), lost))).toEqual([expected]);
  });

  it('scales weights that are all below 0 as well', () => {
    expect(weightsOf(loseExperts(route(top2, [[-1, -3]]), [0]))).toEqual([[0, -4]]);
  });

  it('is the same routing where no kept assignment is lost', () => {
    const options = plain({ admit: { formula: 'fixed', capacity: 1 } });
    const routing = route(options, [
      [1, 0, 0],
      [1, 0, 0],
    ]);
    for (const lost of [[], [2]]) expect(loseExperts(routing, lost)).toBe(routing);
    const after = loseExperts(routing, [0]);
    expect(assignments(after).map(({ reason }) => reason)).toEqual(['lost', 'capacity']);
    expect(loseExperts(after, [0])).toBe(after);
  });

  it('leaves the counters of capacity alone: a lost assignment was admitted', () => {
    const options = parseOptions({ ...top2, admit: { formula: 'fixed', capacity: 2, scope: 'request' } });
    const routing = route(options, [
      [2, 1, 0],
      [2, 0, 1],
    ]);
    const after = loseExperts(routing, [0]);
    expect(after.states).toEqual(routing.states);
    expect([...after.states[0].kept]).toEqual([2, 1, 1]);
  });

  it('is what each sequence sees of its own rows', () => {
    const rows = [
      [2, 1, 0],
      [0, 1, 2],
    ];
    const sequences = rows.map(() => ({ length: 1 }));
    const after = loseExperts(route(top2, rows, { sequences }), [0]);
    const parts = [sliceRouting(after, 0, 1, 0), sliceRouting(after, 1, 1, 1)];
    expect(parts.map((part) => loadOf(part).dropped.lost)).toEqual([1, 0]);
    expect(assignments(joinRoutings(parts))).toEqual(assignments(after));
  });
});

describe('whatever the rule, losing experts', () => {
  it('drops exactly the kept assignments of those, with weight 0 and no place', () => {
    fc.assert(
      fc.property(losses, ({ routing, lost }) => {
        const after = assignments(loseExperts(routing, lost));
        assignments(routing).forEach((before, a) => {
          const gone = before.reason === 'kept' && lost.includes(before.expert);
          const { weight, ...rest } = before;
          expect(after[a]).toMatchObject(gone ? { weight: 0, slot: -1, reason: 'lost' } : rest);
        });
      }),
      RUNS,
    );
  });

  it('keeps the sum of the weights of every token that has an expert with weight left', () => {
    fc.assert(
      fc.property(losses, ({ routing, lost }) => {
        const after = loseExperts(routing, lost);
        for (let t = 0; t < routing.tokens; t++) {
          const [before, left] = [keptOf(routing, t), keptOf(after, t)];
          if (left.every(({ weight }) => weight === 0)) continue;
          expect(sum(left) / sum(before)).toBeCloseTo(1, 5);
        }
      }),
      RUNS,
    );
  });

  it('keeps the very bits of tokens that lost nothing, and writes into no array it was given', () => {
    fc.assert(
      fc.property(losses, ({ routing, lost }) => {
        const copy = structuredClone(routing);
        const after = loseExperts(routing, lost);
        expect(routing).toEqual(copy);
        for (let t = 0; t < routing.tokens; t++) {
          const before = keptOf(routing, t);
          if (before.some(({ expert }) => lost.includes(expert))) continue;
          expect(keptOf(after, t)).toEqual(before);
        }
      }),
      RUNS,
    );
  });

  it('is the same one by one as together, and once as twice', () => {
    fc.assert(
      fc.property(losses, ({ routing, lost }) => {
        const together = loseExperts(routing, lost);
        expect(loseExperts(together, lost)).toBe(together);
        const single = lost.reduce((one, expert) => loseExperts(one, [expert]), routing);
        expect([...single.reason]).toEqual([...together.reason]);
        together.weight.forEach((weight, a) => {
          expect(single.weight[a]).toBeCloseTo(weight, 4);
        });
      }),
      RUNS,
    );
  });

  it('leaves nothing where all are lost', () => {
    fc.assert(
      fc.property(losses, ({ routing }) => {
        const after = loseExperts(routing, [...Array(routing.experts).keys()]);
        expect(after.weight.every((weight) => weight === 0)).toBe(true);
        const { tokenIds, dropped } = planDispatch(after);
        expect([tokenIds.length, dropped.length]).toEqual([0, routing.token.length]);
      }),
      RUNS,
    );
  });
});
