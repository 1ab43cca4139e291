import { describe, expect, it } from 'vitest';
import { Paces } from '#turnout/experts/paces.js';

const [fast, slow] = [{}, {}];
const share = (lane: object, ms: number, cost = 100) => ({ lane, ms, cost });

describe('the paces of lanes', () => {
  it('are the same before anything is known', () => {
    expect([new Paces().of(fast), new Paces().of(slow)]).toEqual([1, 1]);
  });

  it('come to what calls that lanes share take on them', () => {
    const paces = new Paces();
    for (let i = 0; i < 30; i++) paces.learn([share(fast, 10), share(slow, 60, 200)]);
    expect(paces.of(slow) / paces.of(fast)).toBeCloseTo(3, 2);
    for (let i = 0; i < 30; i++) paces.learn([share(fast, 10), share(slow, 10)]);
    expect(paces.of(slow) / paces.of(fast)).toBeCloseTo(1, 2);
  });

  it('are not those of one odd call', () => {
    const paces = new Paces();
    for (let i = 0; i < 20; i++) paces.learn([share(fast, 10), share(slow, 10)]);
    paces.learn([share(fast, 10), share(slow, 40)]);
    expect(paces.of(slow) / paces.of(fast)).toBeLessThan(1.5);
  });

  it('are not learnt from calls that one lane computes, nor from small ones', () => {
    const paces = new Paces();
    paces.learn([share(slow, 1000)]);
    paces.learn([share(fast, 1, 9), share(slow, 9, 9)]);
    paces.learn([share(fast, 0), share(slow, 9)]);
    paces.learn([]);
    expect([paces.of(fast), paces.of(slow)]).toEqual([1, 1]);
  });
});
