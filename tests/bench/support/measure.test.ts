import { describe, expect, it } from 'vitest';
import { median, quantilesOf, samplesOf } from '../../../bench/support/measure.js';

describe('the median', () => {
  it('is the middle one, and between the two in the middle where their number is even', () => {
    expect(median(samplesOf([9, 1, 2]))).toBe(2);
    expect(median(samplesOf([8, 2, 1, 100]))).toBe(5);
    expect(quantilesOf(samplesOf([4, 2])).medianMs).toBe(3);
  });
});
