import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { createRouter } from '#turnout/router/create.js';
import { parseOptions, type RouterOptions } from '#turnout/router/options.js';
import type { RouterInput, Routing, SequenceSpan } from '#turnout/router/routing.js';
import { type Assignment, assignments, expertsOf, table } from '../../support/routing.js';

interface Case {
  readonly E: number;
  readonly k: number;
  readonly logits: readonly (readonly number[])[];
  readonly tokenIds: readonly number[];
  /** Keys that order the allowed experts of each token; the first k are what was recorded. */
  readonly keys: readonly (readonly number[])[];
}

/** Logits without ties, sums of them included; some forbidden; every token keeps one expert. */
const cases: fc.Arbitrary<Case> = fc
  .tuple(fc.integer({ min: 2, max: 7 }), fc.integer({ min: 0, max: 12 }))
  .chain(([E, T]) =>
    fc.record({
      E: fc.constant(E),
      k: fc.integer({ min: 1, max: 2 }),
      logits: fc
        .array(
          fc.array(fc.option(fc.integer({ min: -300, max: 300 }), { freq: 6 }), {
            minLength: E,
            maxLength: E,
          }),
          { minLength: T, maxLength: T },
        )
        .map((rows) =>
          rows.map((row, t) =>
            row.map((x, e) =>
              x === null && e !== t % E
                ? -Infinity
                : (x ?? 0) / 100 + Math.sin(t * 12.9898 + e * 78.233) / 99,
            ),
          ),
        ),
      tokenIds: fc.array(fc.nat({ max: 999 }), { minLength: T, maxLength: T }),
      keys: fc.array(fc.array(fc.nat(), { minLength: E, maxLength: E }), { minLength: T, maxLength: T }),
    }),
  );

/** One rule of each algorithm beside token choice; `balanced` has k = 1 alone. */
const RULES: Record<string, (k: number) => unknown> = {
  'expert-choice': () => ({ algorithm: 'expert-choice', score: 'softmax', factor: 1.5 }),
  'sinkhorn top-k': (k) => ({ algorithm: 'sinkhorn', k, assign: 'top-k', score: 'softmax' }),
  'sinkhorn balanced': () => ({ algorithm: 'sinkhorn', k: 1, assign: 'balanced', score: 'sigmoid' }),
  hash: (k) => ({ algorithm: 'hash', k }),
  'sparse-mixer': (k) => ({ algorithm: 'sparse-mixer', k, jitter: 0.01 }),
  given: (k) => ({ algorithm: 'given', k }),
};
const ALL = Object.keys(RULES);
const CAUSAL = ['hash', 'sparse-mixer', 'given'];

/** Recorded experts of token t, -1 where fewer than k are allowed. */
function recorded({ E, k, logits, keys }: Case, t: number): number[] {
  const allowed = [...Array(E).keys()].filter((e) => logits[t][e] !== -Infinity);
  allowed.sort((a, b) => keys[t][a] - keys[t][b]);
  return Array.from({ length: k }, (_, c) => allowed[c] ?? -1);
}

function inputOf(c: Case, tokens: readonly number[], sequences?: readonly SequenceSpan[]): RouterInput {
  return {
    logits: table(
      tokens.map((t) => c.logits[t]),
      c.E,
    ),
    tokenIds: Int32Array.from(tokens, (t) => c.tokenIds[t]),
    given: {
      experts: Int32Array.from(tokens.flatMap((t) => recorded(c, t))),
      weights: Float32Array.from(tokens.flatMap((t) => recorded(c, t).map((e) => e + t))),
    },
    ...(sequences && { sequences }),
  };
}

const rows = ({ logits }: Case) => logits.map((_, t) => t);
const rule = (name: string, c: Case, admit?: object): RouterOptions =>
  parseOptions({ ...(RULES[name](c.k) as object), ...(admit && { admit }) });
const run = (options: RouterOptions, c: Case): Routing =>
  createRouter(options, c.E).route(inputOf(c, rows(c)));
const RUNS = { numRuns: 150 };

describe.each(ALL)('%s', (name) => {
  it('gives a token distinct experts, none of them forbidden', () => {
    fc.assert(
      fc.property(cases, (c) => {
        for (const [t, experts] of expertsOf(run(rule(name, c), c)).entries()) {
          expect(new Set(experts).size).toBe(experts.length);
          for (const e of experts) expect(c.logits[t][e]).not.toBe(-Infinity);
        }
      }),
      RUNS,
    );
  });

  it('permuting tokens permutes the result', () => {
    fc.assert(
      fc.property(cases, fc.array(fc.nat(), { minLength: 12, maxLength: 12 }), (c, keys) => {
        const router = createRouter(rule(name, c), c.E);
        const order = rows(c).sort((a, b) => keys[a] - keys[b] || a - b);
        const straight = assignments(router.route(inputOf(c, rows(c))));
        const back = assignments(router.route(inputOf(c, order)))
          .map((a) => ({ ...a, token: order[a.token] }))
          .sort((a, b) => a.token - b.token || a.choice - b.choice);
        const strip = ({ token, choice, expert, weight }: Assignment) => [token, choice, expert, weight];
        expect(back.map(strip)).toEqual(straight.map(strip));
      }),
      RUNS,
    );
  });

  it('gives a row that cannot be routed nothing, and routes no rows at all', () => {
    const c: Case = {
      E: 2,
      k: 1,
      logits: [
        [1, 0],
        [Infinity, 0],
        [0, 1],
      ],
      tokenIds: [1, 2, 3],
      keys: [
        [0, 1],
        [0, 1],
        [1, 0],
      ],
    };
    const routing = run(rule(name, c), c);
    expect(routing.badRows).toEqual([{ row: 1, problem: 'positive-infinity', column: 0 }]);
    expect(expertsOf(routing)[1]).toEqual([]);
    const none = createRouter(rule(name, c), 2).route({ logits: table([], 2) });
    expect([none.tokens, none.token.length]).toEqual([0, 0]);
  });
});

describe.each(ALL.filter((name) => name !== 'expert-choice'))('%s under a capacity', (name) => {
  it('never exceeds it, and takes the next-best expert before it drops', () => {
    const limits = fc.record({
      formula: fc.constant('fixed'),
      capacity: fc.integer({ min: 1, max: 3 }),
      scope: fc.constantFrom('request', 'sequence', 'call'),
      overflow: fc.constantFrom('drop', 'next-best'),
    });
    fc.assert(
      fc.property(cases, limits, (c, admit) => {
        const kept = new Array<number>(c.E).fill(0);
        const all = assignments(run(rule(name, c, admit), c));
        for (const { expert, slot, weight } of all) {
          if (slot < 0) expect(weight).toBe(0);
          else kept[expert]++;
        }
        expect(Math.max(...kept)).toBeLessThanOrEqual(admit.capacity);
        if (admit.overflow === 'drop') return;
        for (const { token } of all.filter(({ slot }) => slot < 0)) {
          const held = all.filter((a) => a.token === token && a.slot >= 0).map(({ expert }) => expert);
          const allowed = kept.map((_, e) => e).filter((e) => c.logits[token][e] !== -Infinity);
          const open = allowed.filter((e) => !held.includes(e));
          for (const e of open) expect(kept[e]).toBe(admit.capacity);
        }
      }),
      RUNS,
    );
  });
});

describe.each(CAUSAL)('%s in scope request', (name) => {
  it('is changed by no other sequence and by no cutting into chunks', () => {
    const admit = { factor: 1, formula: 'deepspeed', minimum: 1, scope: 'request', overflow: 'next-best' };
    fc.assert(
      fc.property(cases, fc.nat({ max: 12 }), fc.nat({ max: 12 }), (c, own, cut) => {
        const T = c.logits.length;
        const length = Math.min(own, T);
        const router = createRouter(rule(name, c, admit), c.E);
        expect(router.causal).toBe(true);
        const together = router.route(inputOf(c, rows(c), [{ length }, { length: T - length }]));
        const first = Math.min(cut, length);
        const head = router.route(inputOf(c, rows(c).slice(0, first)));
        const tail = router.route(
          inputOf(c, rows(c).slice(first, length), [{ length: length - first, state: head.states[0]! }]),
        );
        const chunks = [
          ...assignments(head),
          ...assignments(tail).map((a) => ({ ...a, token: a.token + first })),
        ];
        expect(chunks).toEqual(assignments(together).filter(({ token }) => token < length));
        expect(tail.states[0]).toEqual(together.states[0]);
      }),
      RUNS,
    );
  });
});
