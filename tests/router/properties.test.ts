import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { capacityOf } from '#turnout/router/capacity.js';
import { createRouter } from '#turnout/router/create.js';
import type { OptionsOf } from '#turnout/router/options.js';
import { planDispatch } from '#turnout/router/plan.js';
import type { Routing, SequenceSpan } from '#turnout/router/routing.js';
import { type Case, cases } from '../support/arbitrary.js';
import { type Assignment, assignments, table } from '../support/routing.js';

const RUNS = { numRuns: 300 };

function run({ options, E, logits, lengths }: Case): Routing {
  return createRouter(options, E).route({
    logits: table(logits, E),
    sequences: lengths.map((length) => ({ length })),
  });
}

const limitOf = (options: OptionsOf<'token-choice'>) =>
  options.admit === 'none' ? undefined : options.admit;
const isKept = ({ reason }: Assignment) => reason === 'kept';

describe('every token-choice rule', () => {
  it('gives a token distinct experts, all of them allowed', () => {
    fc.assert(
      fc.property(cases(), (c) => {
        const seen = new Set<string>();
        for (const { token, expert } of assignments(run(c))) {
          expect(c.logits[token][expert]).not.toBe(-Infinity);
          expect(seen.has(`${token} ${expert}`)).toBe(false);
          seen.add(`${token} ${expert}`);
        }
      }),
      RUNS,
    );
  });

  it('chooses min(k, allowed) experts for each token', () => {
    fc.assert(
      fc.property(cases('none'), (c) => {
        fc.pre(c.options.select.groups === undefined);
        const counts = c.logits.map(() => 0);
        for (const { token } of assignments(run(c))) counts[token]++;
        const allowed = c.logits.map((row) => row.filter((x) => x !== -Infinity).length);
        expect(counts).toEqual(allowed.map((n) => Math.min(n, c.options.select.k)));
      }),
      RUNS,
    );
  });

  it('never exceeds a capacity, and gives each kept row a place of its own', () => {
    fc.assert(
      fc.property(cases(), (c) => {
        const routing = run(c);
        const all = assignments(routing);
        for (const { start, length, capacity } of routing.groups) {
          const inside = all.filter((a) => isKept(a) && a.token >= start && a.token < start + length);
          for (let e = 0; e < c.E; e++) {
            const slots = inside.filter(({ expert }) => expert === e).map(({ slot }) => slot);
            expect(slots.length).toBeLessThanOrEqual(capacity);
            expect(slots.sort((a, b) => a - b)).toEqual([...slots.keys()]);
          }
        }
      }),
      RUNS,
    );
  });

  it('gives dropped choices weight 0 and no slot, and the plan the kept ones by expert', () => {
    fc.assert(
      fc.property(cases(), (c) => {
        const routing = run(c);
        const all = assignments(routing);
        for (const a of all) if (!isKept(a)) expect([a.weight, a.slot]).toEqual([0, -1]);
        const plan = planDispatch(routing);
        const sorted = all.filter(isKept).sort((a, b) => a.expert - b.expert || a.token - b.token);
        expect([...plan.tokenIds]).toEqual(sorted.map(({ token }) => token));
        expect([...plan.weights]).toEqual(sorted.map(({ weight }) => weight));
        for (let e = 0; e < c.E; e++) {
          expect(plan.offsets[e + 1] - plan.offsets[e]).toBe(
            sorted.filter(({ expert }) => expert === e).length,
          );
        }
        expect(plan.dropped).toHaveLength(all.length - sorted.length);
      }),
      RUNS,
    );
  });

  it('without drops, normalising weights sum to the scaling factor', () => {
    fc.assert(
      fc.property(cases('none'), (c) => {
        const { weigh, select, renormalise } = c.options;
        fc.pre(weigh.by !== 'score' || renormalise !== 'never');
        fc.pre((select.later?.rule ?? 'always') === 'always' || select.later?.rule === 'sampled');
        const sums = c.logits.map(() => 0);
        for (const { token, weight } of assignments(run(c))) sums[token] += weight;
        for (const sum of sums) expect(sum).toBeCloseTo(weigh.scale ?? 1, 5);
      }),
      RUNS,
    );
  });

  it('drops with next-best only when every allowed expert that the token does not hold is full', () => {
    fc.assert(
      fc.property(cases(), (c) => {
        const limit = limitOf(c.options);
        fc.pre(limit?.overflow === 'next-best');
        // Groups narrow what a token may take further; the ranking that shows it is not in the routing.
        fc.pre(c.options.select.groups === undefined);
        const routing = run(c);
        const all = assignments(routing);
        for (const drop of all.filter(({ reason }) => reason === 'capacity')) {
          const group = routing.groups.find(
            ({ start, length }) => drop.token >= start && drop.token < start + length,
          )!;
          const running = (limit!.scope ?? 'request') === 'request';
          const capacity = running
            ? capacityOf(limit!, drop.token - group.start + 1, c.E, c.options.select.k)
            : group.capacity;
          const rivals = all.filter(
            (a) =>
              isKept(a) &&
              a.token >= group.start &&
              a.token < (running ? drop.token + 1 : group.start + group.length),
          );
          const held = all.filter((a) => isKept(a) && a.token === drop.token).map(({ expert }) => expert);
          for (let e = 0; e < c.E; e++) {
            if (c.logits[drop.token][e] === -Infinity || held.includes(e)) continue;
            expect(rivals.filter(({ expert }) => expert === e).length).toBeGreaterThanOrEqual(capacity);
          }
        }
      }),
      { numRuns: 600 },
    );
  });
});

/** The assignments of one sequence, counted from its first token. */
function ofSequence(routing: Routing, start: number, length: number): Assignment[] {
  return assignments(routing)
    .filter(({ token }) => token >= start && token < start + length)
    .map((a) => ({ ...a, token: a.token - start }));
}

describe('scope request, and dropless', () => {
  const keyed = fc.constantFrom('request', 'none').chain((kind) => cases(kind as 'request' | 'none'));

  it('is not changed by other sequences', () => {
    fc.assert(
      fc.property(keyed, fc.nat({ max: 3 }), (c, pick) => {
        const s = pick % c.lengths.length;
        const start = c.lengths.slice(0, s).reduce((a, b) => a + b, 0);
        const router = createRouter(c.options, c.E);
        const together = run(c);
        const alone = router.route({
          logits: table(c.logits.slice(start, start + c.lengths[s]), c.E),
          sequences: [{ length: c.lengths[s], request: s }],
        });
        expect(assignments(alone)).toEqual(ofSequence(together, start, c.lengths[s]));
        expect(alone.states[0]).toEqual(together.states[s]);
      }),
      RUNS,
    );
  });

  it('is not changed by cutting a sequence into chunks', () => {
    fc.assert(
      fc.property(keyed, fc.array(fc.integer({ min: 0, max: 5 }), { maxLength: 8 }), (c, cuts) => {
        const T = c.logits.length;
        const router = createRouter(c.options, c.E);
        const whole = router.route({ logits: table(c.logits, c.E) });
        const parts: Assignment[] = [];
        let span: SequenceSpan = { length: 0 };
        for (let at = 0, i = 0; at < T; i++) {
          const length = i < cuts.length ? Math.min(cuts[i], T - at) : T - at;
          const part = router.route({
            logits: table(c.logits.slice(at, at + length), c.E),
            sequences: [{ ...span, length }],
          });
          parts.push(...assignments(part).map((a) => ({ ...a, token: a.token + at })));
          span = { length: 0, state: part.states[0] };
          at += length;
        }
        expect(parts).toEqual(assignments(whole));
        if (span.state) expect(span.state).toEqual(whole.states[0]);
      }),
      RUNS,
    );
  });

  it('says that it is causal', () => {
    fc.assert(
      fc.property(keyed, (c) => {
        expect(createRouter(c.options, c.E).causal).toBe(true);
      }),
    );
  });
});

describe('permuting tokens', () => {
  // A token's place decides nothing where there is no capacity, or where it goes to the largest of distinct logits.
  const limits = fc.constantFrom(
    undefined,
    { formula: 'fixed', capacity: 2, scope: 'call', priority: 'logit' } as const,
    { factor: 1, formula: 'megatron', scope: 'call', priority: 'logit', overflow: 'next-best' } as const,
  );

  it('permutes the result', () => {
    fc.assert(
      fc.property(
        cases('none'),
        limits,
        fc.array(fc.nat(), { minLength: 28, maxLength: 28 }),
        (c, limit, keys) => {
          const { later, ...select } = c.options.select;
          const options = { ...c.options, select, ...(limit && { admit: limit }) };
          const logits = c.logits.map((row, t) => row.map((x, e) => x + (t * c.E + e) / 1000));
          const order = logits.map((_, t) => t).sort((a, b) => keys[a] - keys[b] || a - b);
          const lengths = [logits.length];
          const straight = assignments(run({ ...c, options, logits, lengths }));
          const permuted = assignments(run({ ...c, options, logits: order.map((t) => logits[t]), lengths }));
          const back = permuted
            .map((a) => ({ ...a, token: order[a.token] }))
            .sort((a, b) => a.token - b.token || a.choice - b.choice);
          const strip = ({ slot, ...rest }: Assignment) => rest;
          expect(back.map(strip)).toEqual(straight.map(strip));
        },
      ),
      RUNS,
    );
  });
});
