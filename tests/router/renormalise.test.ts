import { describe, expect, it } from 'vitest';
import { renormalise } from '#turnout/router/renormalise.js';
import { plain, route } from '../support/routing.js';

describe('renormalise', () => {
  const weight = Float32Array.of(0.6, 0.2, 0.3, 0.1);
  const reason = Uint8Array.of(0, 1, 0, 0);
  const result = (when: 'never' | 'before-drop' | 'after-drop', scale = 1) =>
    [...renormalise(weight, reason, 2, { when, scale })].map((w) => expect.closeTo(w, 6));

  it('never: the kept stay as they are', () => expect([0.6, 0, 0.3, 0.1]).toEqual(result('never')));
  it('before-drop: over all choices', () => expect([0.75, 0, 0.75, 0.25]).toEqual(result('before-drop')));
  it('after-drop: over the kept', () => expect([1, 0, 0.75, 0.25]).toEqual(result('after-drop')));
  it('to the scale', () => expect([2.5, 0, 1.875, 0.625]).toEqual(result('after-drop', 2.5)));

  it('leaves a token without a kept choice at 0, and sums of 0 too', () => {
    const nothing = renormalise(Float32Array.of(1, 1), Uint8Array.of(1, 1), 2, {
      when: 'after-drop',
      scale: 1,
    });
    expect([...nothing]).toEqual([0, 0]);
    const zero = renormalise(Float32Array.of(0, 0), Uint8Array.of(0, 0), 2, {
      when: 'before-drop',
      scale: 1,
    });
    expect([...zero]).toEqual([0, 0]);
  });

  it('comes after capacity: the order decides the weight of what is left', () => {
    const of = (renormaliseWhen: string) =>
      route(
        plain({
          select: { k: 2 },
          renormalise: renormaliseWhen,
          admit: { formula: 'fixed', capacity: 1 },
        }),
        [
          [3, 1, 0],
          [3, 0, 1],
        ],
      ).weight;
    expect([...of('before-drop')]).toEqual([0.75, 0.25, 0, 0.25]);
    expect([...of('after-drop')]).toEqual([0.75, 0.25, 0, 1]);
    expect([...of('never')]).toEqual([3, 1, 0, 1]);
  });
});
