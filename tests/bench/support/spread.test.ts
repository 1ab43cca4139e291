import { expect, it } from 'vitest';
import { spreadOf } from '../../../bench/support/spread.js';

it('a spread has the median that readings have', () => {
  expect(spreadOf([3, 9, 1])).toEqual({ median: 3, least: 1, most: 9 });
  expect(spreadOf([4, 1, 2, 9])).toEqual({ median: 3, least: 1, most: 9 });
});
