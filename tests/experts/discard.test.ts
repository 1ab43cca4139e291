import { expect, it } from 'vitest';
import { discard } from '#turnout/experts/discard.js';

const BYTES = 64 * 2 ** 20;

it('frees memory now, and once', () => {
  const before = process.memoryUsage().arrayBuffers;
  const array = new Float32Array(BYTES / 4);
  expect(process.memoryUsage().arrayBuffers - before).toBeGreaterThanOrEqual(BYTES);
  discard(array);
  expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(BYTES / 2);
  expect(array.length).toBe(0);
  discard(array);
});
