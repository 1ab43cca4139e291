import { describe, expect, it } from 'vitest';
import { createRouter } from '#turnout/router/create.js';
import { assignments, kept, plain, route, table, vectors } from '../support/routing.js';

describe('DeepSpeed topkgating', () => {
  for (const c of vectors('deepspeed_topkgating').cases) {
    const sparse = (priority: string) => {
      const options = plain({
        score: { function: 'softmax' },
        select: { k: c.k },
        admit: {
          factor: c.capacity_factor,
          formula: 'deepspeed',
          minimum: c.min_capacity,
          priority,
          scope: 'call',
        },
      });
      const routing = route(options, c.logits);
      expect(routing.groups).toEqual([{ start: 0, length: c.logits.length, capacity: c.capacity }]);
      return kept(routing)
        .map(({ token, expert, slot }) => [token, expert, slot])
        .sort((a, b) => a[0] - b[0] || a[1] - b[1]);
    };
    it(`${c.name}: policy probs keeps the highest logits`, () => expect(sparse('logit')).toEqual(c.probs));
    it(`${c.name}: policy position keeps the first`, () => expect(sparse('token-major')).toEqual(c.position));
  }
});

describe('V-MoE dispatch', () => {
  const cases = vectors('vmoe_dispatch').cases.filter(({ name }: { name: string }) =>
    name.startsWith('top_experts_per_item'),
  );
  for (const c of cases) {
    const priority = c.batch_priority || c.name.endsWith('bpr') ? 'batch-prioritised' : 'k-major';
    const routing = route(
      plain({
        select: { k: c.k },
        admit: { formula: 'fixed', capacity: c.capacity, priority, scope: 'call' },
      }),
      c.gates,
    );
    if (c.combine_SEC) {
      it(`${c.name}: combine`, () => {
        const combine = c.gates.map((row: number[]) => row.map(() => new Array(c.capacity).fill(0)));
        for (const { token, expert, slot, weight } of kept(routing)) combine[token][expert][slot] = weight;
        expect(combine.flat(2)).toEqual(c.combine_SEC.flat(2).map((x: number) => expect.closeTo(x, 6)));
      });
    } else {
      it(`${c.name}: experts, slots and weights`, () => {
        for (const { token, choice, expert, slot, score, reason } of assignments(routing)) {
          const [wanted, place] = c.indices_SK_expert_slot[token][choice];
          expect([expert, slot, reason]).toEqual(
            place < c.capacity ? [wanted, place, 'kept'] : [wanted, -1, 'capacity'],
          );
          expect(score).toBeCloseTo(c.combine_weights_SK[token][choice], 6);
        }
      });
    }
  }
});

describe('priority', () => {
  const limit = { formula: 'fixed', capacity: 1, scope: 'call' };
  const winners = (priority: string, logits: number[][], uniforms?: number[][]) =>
    kept(
      route(plain({ score: { function: 'softmax' }, admit: { ...limit, priority } }), logits, {
        ...(uniforms && { uniforms: table(uniforms) }),
      }),
    ).map(({ token }) => token);

  it('probability ranks by score, logit by logit', () => {
    const logits = [
      [5, 4.9],
      [2, -9],
    ];
    expect(winners('probability', logits)).toEqual([1]);
    expect(winners('logit', logits)).toEqual([0]);
  });

  it('random keeps the largest uniform number', () => {
    const logits = [
      [1, 0],
      [1, 0],
      [1, 0],
    ];
    expect(winners('random', logits, [[0.2], [0.9], [0.5]])).toEqual([1]);
    expect(winners('random', logits)).toHaveLength(1);
  });

  it('gives equal values to the earlier token', () => {
    expect(
      winners('batch-prioritised', [
        [1, 0],
        [1, 0],
      ]),
    ).toEqual([0]);
  });
});

describe('scope', () => {
  const three = [
    [1, 0],
    [1, 0],
    [1, 0],
  ];
  const reasons = (admit: object, lengths: number[]) =>
    assignments(
      route(plain({ admit }), [...three, ...three], { sequences: lengths.map((length) => ({ length })) }),
    ).map(({ reason }) => reason === 'kept');

  it('request counts on with the capacity of the tokens so far', () => {
    // floor(n / 2) for n = 1..6: 0, 1, 1, 2, 2, 3.
    const admit = { factor: 1, formula: 'switch' };
    expect(reasons(admit, [6])).toEqual([false, true, false, true, false, true]);
    expect(reasons(admit, [3, 3])).toEqual([false, true, false, false, true, false]);
  });

  it('sequence takes the capacity from the rows of the sequence, call from all', () => {
    expect(reasons({ factor: 1, formula: 'switch', scope: 'sequence' }, [2, 4])).toEqual([
      true,
      false,
      true,
      true,
      false,
      false,
    ]);
    expect(reasons({ factor: 1, formula: 'switch', scope: 'call' }, [2, 4])).toEqual([
      true,
      true,
      true,
      false,
      false,
      false,
    ]);
  });

  it('carries counters from chunk to chunk, and slots with them', () => {
    const router = createRouter(plain({ admit: { formula: 'fixed', capacity: 2 } }), 2);
    const first = router.route({ logits: table([[1, 0]]) });
    const second = router.route({ logits: table(three), sequences: [{ length: 3, state: first.states[0] }] });
    expect([...first.slot, ...second.slot]).toEqual([0, 1, -1, -1]);
    expect(second.states[0]).toEqual({ position: 4, kept: Int32Array.of(2, 0) });
    expect(first.states[0]).toEqual({ position: 1, kept: Int32Array.of(1, 0) });
  });
});

describe('overflow next-best', () => {
  const options = (extra: object = {}) =>
    plain({
      score: { function: 'softmax' },
      admit: { formula: 'fixed', capacity: 1, overflow: 'next-best' },
      ...extra,
    });
  const logits = [
    [3, 2, 1, -Infinity],
    [3, 2, 1, -Infinity],
    [3, 2, 1, -Infinity],
    [3, 2, 1, -Infinity],
  ];

  it('moves to the best expert with room, never to a forbidden one', () => {
    const got = assignments(route(options(), logits)).map(({ expert, reason }) => [expert, reason]);
    expect(got).toEqual([
      [0, 'kept'],
      [1, 'kept'],
      [2, 'kept'],
      [0, 'capacity'],
    ]);
  });

  it('takes score and weight of the new expert', () => {
    const routing = route(options(), logits);
    const p = (e: number) => Math.exp([3, 2, 1][e]) / (Math.exp(3) + Math.exp(2) + Math.exp(1));
    for (const { expert, score, weight } of kept(routing)) {
      expect(score).toBeCloseTo(p(expert), 6);
      expect(weight).toBeCloseTo(p(expert), 6);
    }
  });

  it('normalises over the experts that the token got', () => {
    const routing = route(options({ select: { k: 2 }, weigh: { by: 'softmax' } }), logits.slice(0, 2));
    // Token 1 finds experts 0 and 1 full: its first choice moves to 2, its second has nowhere to go.
    expect(assignments(routing).map(({ expert, reason }) => [expert, reason])).toEqual([
      [0, 'kept'],
      [1, 'kept'],
      [2, 'kept'],
      [1, 'capacity'],
    ]);
    expect(routing.weight[2]).toBeCloseTo(Math.exp(1) / (Math.exp(1) + Math.exp(2)), 6);
  });
});
