import { describe, expect, it } from 'vitest';
import { expertsOf, plain, route, table } from '../../support/routing.js';

const NO = -Infinity;

describe('select', () => {
  it('compares logits, so that saturated scores are no ties', () => {
    expect(expertsOf(route(plain({ score: { function: 'sigmoid' } }), [[40, 50, 45]]))).toEqual([[1]]);
    expect(
      expertsOf(route(plain({ score: { function: 'softmax' }, select: { k: 2 } }), [[500, 0, 5]])),
    ).toEqual([[0, 2]]);
  });

  it('lets the bias choose and not weigh', () => {
    const routing = route(plain({ score: { function: 'sigmoid', bias: [0, 1, 0] } }), [[1, 0, NO]]);
    expect([...routing.expert]).toEqual([1]);
    expect([...routing.weight]).toEqual([0.5]);
    expect([...routing.score]).toEqual([0.5]);
  });

  it('no bias opens a forbidden expert', () => {
    const routing = route(plain({ score: { function: 'sigmoid', bias: [0, 0, 100] }, select: { k: 3 } }), [
      [1, 0, NO],
    ]);
    expect(expertsOf(routing)).toEqual([[0, 1]]);
  });

  const grouped = (score: string, keep = 1) => plain({ select: { k: 2, groups: { count: 2, keep, score } } });

  it('keeps the best groups, by their largest value or by the sum of two', () => {
    const row = [5, 0, 0, 4, 3, 3];
    expect(expertsOf(route(grouped('max'), [row]))).toEqual([[0, 1]]);
    expect(expertsOf(route(grouped('top2-sum'), [row]))).toEqual([[3, 4]]);
    expect(expertsOf(route(grouped('max', 2), [row]))).toEqual([[0, 3]]);
  });

  it('masks the other groups with -infinity: negative scores of a kept group win over them', () => {
    expect(expertsOf(route(grouped('max'), [[2, -1, -2, 1, 1, 1]]))).toEqual([[0, 1]]);
  });

  it('counts only allowed experts of a group', () => {
    expect(expertsOf(route(grouped('top2-sum'), [[9, NO, NO, 1, 1, 1]]))).toEqual([[0]]);
    expect(expertsOf(route(grouped('max', 2), [[NO, NO, NO, 1, 2, NO]]))).toEqual([[4, 3]]);
  });

  it('gives equal groups to the lower index', () => {
    expect(expertsOf(route(grouped('max'), [[1, 0, 0, 1, 0, 0]]))).toEqual([[0, 1]]);
  });

  it('every later choice has a number of its own', () => {
    const options = plain({ score: { function: 'softmax' }, select: { k: 3, later: { rule: 'random' } } });
    const routing = route(options, [[1, 1, 1]], { uniforms: table([[0.9, 0.7, 0.6]]) });
    // Each share is a third: kept below 2/3.
    expect([...routing.reason]).toEqual([0, 2, 0]);
  });

  it('samples later choices only from allowed experts of kept groups, without repetition', () => {
    const options = plain({
      score: { function: 'softmax' },
      select: { k: 2, groups: { count: 2, keep: 1, score: 'max' }, later: { rule: 'sampled' } },
    });
    for (const u of [0, 0.3, 0.6, 0.999]) {
      const routing = route(options, [[3, 1, NO, 2, 2, 2]], { uniforms: table([[0, u]]) });
      expect(expertsOf(routing)).toEqual([[0, 1]]);
    }
  });
});
