import { expect, it } from 'vitest';
import type { RoutingReport } from '#turnout/server/dashboard/api.js';
import { History } from '#turnout/server/dashboard/history.js';

/** A report of one layer at a second. */
const report = (second: number, tokens: number, tenSeconds = tokens) =>
  ({
    at: second * 1000,
    layers: [
      {
        windows: {
          '1s': { tokens },
          '10s': { tokens: tenSeconds, dropRate: 0.25, losses: { switch: 1.1 }, imbalance: { maxVio: 0.5 } },
        },
      },
    ],
  }) as unknown as RoutingReport;

it('has no value where no token passed: zero would be a claim', () => {
  const history = new History();
  history.push(report(1, 4));
  history.push(report(2, 0, 4));
  history.push(report(3, 0));
  expect(history.tokens()).toEqual([4, 0, 0]);
  expect(history.measure('maxVio', 0)).toEqual([0.5, 0.5, null]);
  expect(history.measure('dropRate', 0)).toEqual([25, 25, null]);
  expect(history.measure('balance', 0)).toEqual([1.1, 1.1, null]);
});

it('draws a silence as a gap, and a report that came twice once', () => {
  const history = new History();
  history.push(report(1, 4));
  history.push(report(1, 4));
  history.push(report(9, 6));
  expect(history.times()).toEqual([1, 2, 9]);
  expect(history.tokens()).toEqual([4, null, 6]);
});

it('forgets what is older than five minutes', () => {
  const history = new History();
  for (let second = 0; second < 400; second++) history.push(report(second, 1));
  expect(history.times().at(0)).toBe(100);
  expect(history.size).toBe(300);
});
