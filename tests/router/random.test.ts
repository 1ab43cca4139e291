import { describe, expect, it } from 'vitest';
import { normal, type RandomSource, rowKey, uniform } from '#turnout/router/random.js';

const source: RandomSource = { seed: 7, request: 0, position: 0, layer: 0, use: 'noise' };

describe('random', () => {
  it('gives the same number for the same key, and others for any other key', () => {
    const changes: Partial<RandomSource>[] = [
      { seed: 8 },
      { seed: 7 + 2 ** 32 },
      { request: 1 },
      { position: 1 },
      { layer: 1 },
      { use: 'choice' },
    ];
    const first = uniform(rowKey(source), 0);
    expect(uniform(rowKey({ ...source }), 0)).toBe(first);
    for (const change of changes) expect(uniform(rowKey({ ...source, ...change }), 0)).not.toBe(first);
    expect(uniform(rowKey(source), 1)).not.toBe(first);
  });

  it('is uniform in [0, 1) over neighbouring keys', () => {
    const bins = new Int32Array(16);
    for (let position = 0; position < 2000; position++) {
      const row = rowKey({ ...source, position });
      for (let index = 0; index < 8; index++) {
        const u = uniform(row, index);
        expect(u >= 0 && u < 1 && Math.fround(u) === u).toBe(true);
        bins[Math.floor(u * 16)]++;
      }
    }
    const expected = 1000;
    const chi2 = bins.reduce((sum, n) => sum + (n - expected) ** 2 / expected, 0);
    // 15 degrees of freedom: 37.7 is the 0.1 % point.
    expect(chi2).toBeLessThan(37.7);
  });

  it('draws standard normals, uncorrelated between neighbouring positions', () => {
    const n = 20_000;
    let sum = 0;
    let squares = 0;
    let products = 0;
    let before = 0;
    for (let position = 0; position < n; position++) {
      const z = normal(rowKey({ ...source, position }), 3);
      sum += z;
      squares += z * z;
      products += z * before;
      before = z;
    }
    expect(Math.abs(sum / n)).toBeLessThan(0.03);
    expect(Math.abs(squares / n - 1)).toBeLessThan(0.05);
    expect(Math.abs(products / n)).toBeLessThan(0.03);
  });
});
