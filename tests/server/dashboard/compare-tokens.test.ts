import { expect, it } from 'vitest';
import type { Trace } from '#turnout/server/dashboard/api.js';
import { differences } from '#turnout/server/dashboard/compare-tokens.js';

/** A trace of one layer: the experts of each token. */
const trace = (experts: readonly (readonly number[])[]) =>
  ({
    tokens: experts.map((_, id) => ({ id, text: 'x', logprob: null })),
    layers: [{}],
    experts: experts.map((chosen) => [chosen]),
  }) as unknown as Trace;

const differing = (a: readonly number[], b: readonly number[]) => differences(trace([a]), trace([b]))[0]![0];

it('finds tokens with other experts, in whatever order', () => {
  expect(differing([1, 2], [2, 1])).toBe(false);
  expect(differing([1, 2], [1, 3])).toBe(true);
});

it('compares a rule of fewer choices with the first choices of the other', () => {
  expect(differing([1, 2], [1])).toBe(false);
  expect(differing([1, 2], [2])).toBe(true);
});

it('counts a token that one rule alone leaves without an expert', () => {
  expect(differing([1], [-1])).toBe(true);
  expect(differing([-1, -1], [-1])).toBe(false);
});
