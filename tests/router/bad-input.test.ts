import { describe, expect, it } from 'vitest';
import { TurnoutError } from '#turnout/errors.js';
import { assertGoodRows } from '#turnout/router/bad-rows.js';
import { createRouter } from '#turnout/router/create.js';
import { parseOptions } from '#turnout/router/options.js';
import { planDispatch } from '#turnout/router/plan.js';
import { presetNames, presetOptions } from '#turnout/router/presets.js';
import { assignments, plain, route, table } from '../support/routing.js';

function failure(run: () => unknown): Pick<TurnoutError, 'code' | 'message' | 'details'> {
  try {
    run();
  } catch (error) {
    if (error instanceof TurnoutError) return error;
    throw error;
  }
  throw new Error('expected a TurnoutError');
}

describe('options that cannot be used', () => {
  const refused: [string, object, number, string, RegExp][] = [
    ['k = 0', { select: { k: 0 } }, 4, 'TURNOUT_CHOICES_INVALID', /select\.k: .*at least 1, got 0/],
    ['k = 1.5', { select: { k: 1.5 } }, 4, 'TURNOUT_CHOICES_INVALID', /whole number.* got 1\.5/],
    ['k > E', { select: { k: 5 } }, 4, 'TURNOUT_CHOICES_INVALID', /1\.\.4, got 5/],
    ['factor 0', { admit: { factor: 0 } }, 4, 'TURNOUT_CAPACITY_INVALID', /above 0, got 0/],
    [
      'factor -1',
      { admit: { factor: -1, formula: 'v-moe' } },
      4,
      'TURNOUT_CAPACITY_INVALID',
      /above 0, got -1/,
    ],
    [
      'megablocks with factor 0',
      { admit: { factor: 0, formula: 'megablocks' } },
      4,
      'TURNOUT_CAPACITY_INVALID',
      /got 0/,
    ],
    [
      'fixed capacity 0',
      { admit: { formula: 'fixed', capacity: 0 } },
      4,
      'TURNOUT_CAPACITY_INVALID',
      /at least 1, got 0/,
    ],
    ['E = 0', {}, 0, 'TURNOUT_EXPERTS_INVALID', /from 1, got 0/],
    ['E = 2.5', {}, 2.5, 'TURNOUT_EXPERTS_INVALID', /got 2\.5/],
    [
      'groups that do not divide E',
      { select: { k: 1, groups: { count: 3, keep: 1, score: 'max' } } },
      8,
      'TURNOUT_EXPERTS_INVALID',
      /divisor of E = 8, got 3/,
    ],
    [
      'more groups kept than there are',
      { select: { k: 1, groups: { count: 2, keep: 3, score: 'max' } } },
      8,
      'TURNOUT_OPTIONS_INVALID',
      /1\.\.2 .* got 3/,
    ],
    [
      'k above the experts of the kept groups',
      { select: { k: 3, groups: { count: 4, keep: 1, score: 'max' } } },
      8,
      'TURNOUT_CHOICES_INVALID',
      /1\.\.2 .* got 3/,
    ],
    [
      'a bias of another length',
      { score: { function: 'softmax', bias: [1] } },
      4,
      'TURNOUT_SHAPE_MISMATCH',
      /\[4\], got \[1\]/,
    ],
    [
      'a running capacity with another priority',
      { admit: { factor: 1, priority: 'k-major' } },
      4,
      'TURNOUT_OPTIONS_INVALID',
      /k-major.*request/,
    ],
    [
      'a rule on later choices without any',
      { select: { k: 1, later: { rule: 'random' } } },
      4,
      'TURNOUT_OPTIONS_INVALID',
      /2 or more, got 1/,
    ],
    [
      'only zero-computation experts',
      { zeroComputation: { zero: 4 } },
      4,
      'TURNOUT_EXPERTS_INVALID',
      /fewer than E = 4 experts, got 4/,
    ],
    [
      'an unknown key',
      { selekt: {} },
      4,
      'TURNOUT_OPTIONS_INVALID',
      /selekt: expected one of the keys .*select.*, got "selekt"/,
    ],
    [
      'an unknown key in a stage',
      { weigh: { by: 'score', sclae: 2 } },
      4,
      'TURNOUT_OPTIONS_INVALID',
      /weigh\.sclae/,
    ],
    [
      'an unknown value',
      { score: { function: 'softplus' } },
      4,
      'TURNOUT_OPTIONS_INVALID',
      /one of softmax.* got "softplus"/,
    ],
    [
      'an unknown rule',
      { select: { k: 2, later: { rule: 'never' } } },
      4,
      'TURNOUT_OPTIONS_INVALID',
      /select\.later\.rule.* got "never"/,
    ],
    [
      'a capacity without its number',
      { admit: { formula: 'fixed' } },
      4,
      'TURNOUT_CAPACITY_INVALID',
      /admit\.capacity/,
    ],
    [
      'a bias that is no number',
      { score: { function: 'softmax', bias: [1, 'x', 0, 0] } },
      4,
      'TURNOUT_OPTIONS_INVALID',
      /score\.bias\.1.* got "x"/,
    ],
  ];
  for (const [name, changes, E, code, message] of refused) {
    it(name, () => {
      const error = failure(() => createRouter(plain(changes), E));
      expect(error.code).toBe(code);
      expect(error.message).toMatch(message);
      expect(Object.keys(error.details).length).toBeGreaterThan(0);
    });
  }

  it('no algorithm, another one, or no record at all', () => {
    expect(failure(() => parseOptions({ select: { k: 1 } })).message).toMatch(
      /algorithm: expected one of "token-choice"/,
    );
    expect(failure(() => parseOptions({ algorithm: 'magic' })).message).toMatch(/got "magic"/);
    expect(failure(() => parseOptions([])).code).toBe('TURNOUT_OPTIONS_INVALID');
  });
});

describe('rows that cannot be routed', () => {
  const rows = [
    [1, 0],
    [0, Number.NaN],
    [Infinity, 0],
    [-Infinity, -Infinity],
    [-Infinity, 3],
  ];

  it('are reported, without assignments and without a mark on the others', () => {
    const routing = route(plain({ admit: { factor: 1 } }), rows);
    expect(routing.badRows).toEqual([
      { row: 1, problem: 'nan', column: 1 },
      { row: 2, problem: 'positive-infinity', column: 0 },
      { row: 3, problem: 'all-negative-infinity', column: 0 },
    ]);
    expect(assignments(routing).map(({ token, expert }) => [token, expert])).toEqual([
      [0, 0],
      [4, 1],
    ]);
  });

  it('throw with row, column and value where that is asked for', () => {
    const error = failure(() => assertGoodRows(route(plain(), rows)));
    expect(error.code).toBe('TURNOUT_LOGITS_INVALID');
    expect(error.message).toBe('row 1 of the logits has NaN in column 1');
    expect(error.details).toEqual({ row: 1, column: 1, value: Number.NaN, badRows: 3 });
    expect(failure(() => assertGoodRows(route(plain(), rows.slice(2)))).message).toMatch(
      /row 0 .* Infinity in column 0/,
    );
    expect(failure(() => assertGoodRows(route(plain(), rows.slice(3)))).message).toMatch(
      /row 0 .* only -Infinity/,
    );
    expect(() => assertGoodRows(route(plain(), rows.slice(4)))).not.toThrow();
  });

  it('a row with fewer than k allowed experts takes those, and that is no drop', () => {
    const routing = route(plain({ select: { k: 2 }, weigh: { by: 'softmax' } }), rows.slice(4));
    expect([...routing.expert]).toEqual([1]);
    expect([...routing.weight]).toEqual([1]);
    expect(planDispatch(routing).dropped).toEqual([]);
  });
});

describe('shapes of a call', () => {
  const router = createRouter(plain({ select: { k: 2 } }), 3);
  const logits = table([
    [1, 2, 3],
    [1, 2, 3],
  ]);
  const mismatches: [string, () => unknown, RegExp][] = [
    [
      'rows of another length',
      () => router.route({ logits: table([[1, 2]]) }),
      /logits: expected \[1, 3\], got \[1, 2\]/,
    ],
    [
      'sequences that do not sum to T',
      () => router.route({ logits, sequences: [{ length: 3 }] }),
      /T = 2, got a sum of 3/,
    ],
    [
      'noise',
      () => router.route({ logits, noise: table([[1, 2, 3]]) }),
      /noise: expected \[2, 3\], got \[1, 3\]/,
    ],
    [
      'uniforms',
      () => router.route({ logits, uniforms: table([[0], [0]]) }),
      /uniforms: expected \[2, 2\], got \[2, 1\]/,
    ],
    [
      'token ids',
      () => router.route({ logits, tokenIds: Int32Array.of(1) }),
      /tokenIds: expected \[2\], got \[1\]/,
    ],
    [
      'counters',
      () =>
        router.route({ logits, sequences: [{ length: 2, state: { position: 0, kept: new Int32Array(2) } }] }),
      /kept: expected \[3\], got \[2\]/,
    ],
  ];
  for (const [name, run, message] of mismatches) {
    it(name, () => {
      const error = failure(run);
      expect(error.code).toBe('TURNOUT_SHAPE_MISMATCH');
      expect(error.message).toMatch(message);
    });
  }

  it('a length below zero', () => {
    expect(failure(() => router.route({ logits, sequences: [{ length: -1 }, { length: 3 }] })).code).toBe(
      'TURNOUT_INPUT_INVALID',
    );
  });

  it('random numbers out of range', () => {
    for (const wrong of [1.1, -0.1, Number.NaN]) {
      expect(
        failure(() =>
          router.route({
            logits,
            uniforms: table([
              [0, 0],
              [wrong, 0],
            ]),
          }),
        ).message,
      ).toMatch(/uniforms, row 1, column 0/);
    }
    expect(
      failure(() =>
        router.route({
          logits,
          noise: table([
            [0, 0, 0],
            [0, Infinity, 0],
          ]),
        }),
      ).message,
    ).toMatch(/noise, row 1, column 1/);
  });
});

describe('no tokens', () => {
  it('gives empty results with every preset', () => {
    for (const name of presetNames) {
      const routing = createRouter(presetOptions(name), 320).route({ logits: table([], 320) });
      expect([routing.tokens, routing.token.length, planDispatch(routing).tokenIds.length]).toEqual([
        0, 0, 0,
      ]);
      expect(routing.groups.every(({ capacity }) => capacity >= 0)).toBe(true);
    }
  });
});
