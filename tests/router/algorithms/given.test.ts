import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { createRouter } from '#turnout/router/create.js';
import { planDispatch } from '#turnout/router/plan.js';
import type { Routing } from '#turnout/router/routing.js';
import { cases } from '../../support/arbitrary.js';
import { assignments, table } from '../../support/routing.js';

/** A routing as a record for replay; dropped choices are no choices. */
function recordOf({ tokens, choices, token, choice, expert, weight, slot }: Routing) {
  const experts = new Int32Array(tokens * choices).fill(-1);
  const weights = new Float32Array(tokens * choices);
  token.forEach((t, a) => {
    if (slot[a] < 0) return;
    experts[t * choices + choice[a]] = expert[a];
    weights[t * choices + choice[a]] = weight[a];
  });
  return { experts, weights };
}

const logits = table([
  [1, 2, 3],
  [3, 2, 1],
]);
const replay = (experts: number[], weights: number[], options: object = {}) =>
  createRouter({ algorithm: 'given', k: 2, ...options }, 3).route({
    logits,
    given: { experts: Int32Array.from(experts), weights: Float32Array.from(weights) },
  });

describe('given', () => {
  it('replays what any rule decided: the same plan', () => {
    fc.assert(
      fc.property(cases(), ({ options, E, logits: rows, lengths }) => {
        const sequences = lengths.map((length) => ({ length }));
        const call = { logits: table(rows, E), sequences };
        const recorded = createRouter(options, E).route(call);
        const router = createRouter({ algorithm: 'given', k: recorded.choices }, E);
        const again = planDispatch(router.route({ ...call, given: recordOf(recorded) }));
        const plan = planDispatch(recorded);
        expect([again.tokenIds, again.weights, again.offsets]).toEqual([
          plan.tokenIds,
          plan.weights,
          plan.offsets,
        ]);
      }),
      { numRuns: 200 },
    );
  });

  it('takes experts and weights as they are, -1 for none', () => {
    const all = assignments(replay([2, 0, -1, 1], [0.25, 7, 0, -1]));
    expect(all.map(({ token, choice, expert, weight }) => [token, choice, expert, weight])).toEqual([
      [0, 0, 2, 0.25],
      [0, 1, 0, 7],
      [1, 1, 1, -1],
    ]);
  });

  it('is causal, and keeps a capacity', () => {
    expect(createRouter({ algorithm: 'given', k: 1 }, 3).causal).toBe(true);
    const admit = { formula: 'fixed', capacity: 1 };
    expect(assignments(replay([0, -1, 0, -1], [1, 0, 1, 0], { admit })).map(({ reason }) => reason)).toEqual([
      'kept',
      'capacity',
    ]);
  });

  it.each([
    [
      [0, 3, 0, 1],
      [1, 1, 1, 1],
      'TURNOUT_INPUT_INVALID',
      'token 0, choice 1: expected an expert from 0 to 2',
    ],
    [[0, 1, -2, 1], [1, 1, 1, 1], 'TURNOUT_INPUT_INVALID', 'token 1, choice 0'],
    [[0, 1, 2, 2], [1, 1, 1, 1], 'TURNOUT_INPUT_INVALID', 'expected distinct experts, got 2 twice'],
    [[0, 1, 2, 1], [1, 1, 1, Number.NaN], 'TURNOUT_INPUT_INVALID', 'expected a finite weight, got NaN'],
    [[0, 1], [1, 1], 'TURNOUT_SHAPE_MISMATCH', 'expected [T, K] = [2, 2], got 2 experts and 2 weights'],
  ])('refuses experts %j with weights %j', (experts, weights, code, message) => {
    expect(() => replay(experts, weights)).toThrow(
      expect.objectContaining({ code, message: expect.stringContaining(message) }),
    );
  });

  it('refuses a record of other logits: one that goes to a forbidden expert', () => {
    const router = createRouter({ algorithm: 'given', k: 1 }, 2);
    const given = { experts: Int32Array.of(1), weights: Float32Array.of(1) };
    expect(() => router.route({ logits: table([[0, -Infinity]]), given })).toThrow(
      expect.objectContaining({
        code: 'TURNOUT_INPUT_INVALID',
        message: expect.stringContaining(
          'token 0, choice 0: expected an expert that the logits allow, got 1',
        ),
      }),
    );
  });

  it('needs a record', () => {
    expect(() => createRouter({ algorithm: 'given', k: 2 }, 3).route({ logits })).toThrow(
      expect.objectContaining({ code: 'TURNOUT_INPUT_INVALID' }),
    );
  });
});
