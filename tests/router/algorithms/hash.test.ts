import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { createRouter } from '#turnout/router/create.js';
import { presetOptions } from '#turnout/router/presets.js';
import { expertsOf, table, weightsOf } from '../../support/routing.js';

const E = 8;
const ids = fc.array(fc.nat({ max: 60_000 }), { maxLength: 20 });
const routeIds = (tokenIds: readonly number[], options: object = {}, input: object = {}) =>
  createRouter(presetOptions('hash', options), E).route({
    logits: table(
      tokenIds.map(() => new Array(E).fill(0)),
      E,
    ),
    tokenIds: Int32Array.from(tokenIds),
    ...input,
  });

describe('hash routing', () => {
  it('is a function of the token id: not of the place, the sequence or the logits', () => {
    fc.assert(
      fc.property(ids, fc.integer({ min: 1, max: 4 }), (tokenIds, k) => {
        const together = expertsOf(routeIds(tokenIds, { k }));
        tokenIds.forEach((id, t) => {
          const logits = table([Array.from({ length: E }, (_, e) => (e * id) % 7)]);
          const alone = routeIds([id], { k }, { logits, sequences: [{ length: 1, request: 99 }] });
          expect(expertsOf(alone)[0]).toEqual(together[t]);
        });
      }),
    );
  });

  it('takes k distinct experts of weight 1 / k', () => {
    const routing = routeIds([1, 2, 3], { k: 4 });
    for (const experts of expertsOf(routing)) expect(new Set(experts).size).toBe(4);
    for (const weights of weightsOf(routing)) expect(weights).toEqual([0.25, 0.25, 0.25, 0.25]);
  });

  it('draws another table for another layer and another seed', () => {
    const tokenIds = Array.from({ length: 64 }, (_, i) => i);
    const one = expertsOf(routeIds(tokenIds));
    expect(expertsOf(routeIds(tokenIds, {}, { layer: 1 }))).not.toEqual(one);
    expect(expertsOf(routeIds(tokenIds, { seed: 1 }))).not.toEqual(one);
    expect(expertsOf(routeIds(tokenIds, { seed: 0 }))).toEqual(one);
  });

  it('spreads a vocabulary evenly', () => {
    const counts = new Array(E).fill(0);
    for (const [e] of expertsOf(routeIds(Array.from({ length: 8000 }, (_, i) => i)))) counts[e]++;
    // 1000 each, with a standard deviation of 30.
    for (const count of counts) expect(Math.abs(count - 1000)).toBeLessThan(150);
  });

  it('never takes a forbidden expert', () => {
    const row = [0, -Infinity, 0, -Infinity, -Infinity, -Infinity, -Infinity, -Infinity];
    const tokenIds = [4, 5, 6];
    const routing = routeIds(tokenIds, { k: 3 }, { logits: table(tokenIds.map(() => row)) });
    for (const experts of expertsOf(routing)) expect(experts.toSorted()).toEqual([0, 2]);
  });

  it('needs token ids', () => {
    expect(() => createRouter(presetOptions('hash'), E).route({ logits: table([[1, 2]], E) })).toThrow();
    const logits = table([new Array(E).fill(0)]);
    expect(() => createRouter(presetOptions('hash'), E).route({ logits })).toThrow(
      expect.objectContaining({
        code: 'TURNOUT_INPUT_INVALID',
        message: expect.stringContaining('expected tokenIds [T] = [1], got none'),
      }),
    );
  });
});
