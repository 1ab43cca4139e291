import { describe, expect, it } from 'vitest';
import { softmax, softplus } from '#turnout/router/token-choice/score.js';
import { plain, route, table } from '../../support/routing.js';

const scoresOf = (name: string, row: number[]) => [
  ...route(plain({ score: { function: name } }), [row]).scores.data,
];

describe('score', () => {
  it('softmax survives large logits, and gives -infinity nothing', () => {
    expect(scoresOf('softmax', [1000, 999, -Infinity])).toEqual([
      expect.closeTo(1 / (1 + Math.exp(-1)), 6),
      expect.closeTo(1 / (1 + Math.exp(1)), 6),
      0,
    ]);
    expect(scoresOf('softmax', [-1e30, -1e30])).toEqual([0.5, 0.5]);
  });

  it('sigmoid, sqrt-softplus and identity look at each value alone', () => {
    expect(scoresOf('sigmoid', [0, 2, -Infinity])).toEqual([
      0.5,
      expect.closeTo(1 / (1 + Math.exp(-2)), 6),
      0,
    ]);
    expect(scoresOf('sqrt-softplus', [0, 100, -Infinity])).toEqual([
      expect.closeTo(Math.sqrt(Math.log(2)), 6),
      10,
      0,
    ]);
    expect(scoresOf('identity', [0.5, -3, -Infinity])).toEqual([0.5, -3, -Infinity]);
  });

  it('adds noise to the logits only where the rule has it', () => {
    const noise = table([[10, 0]]);
    const silent = route(plain({ score: { function: 'identity' } }), [[1, 2]], { noise });
    expect([...silent.scores.data]).toEqual([1, 2]);
    const noisy = plain({ score: { function: 'identity', noise: { kind: 'over-experts', scale: 1 } } });
    const routing = route(noisy, [[1, 2]], { noise });
    expect([...routing.scores.data]).toEqual([6, 2]);
    expect([...routing.logits.data]).toEqual([1, 2]);
    expect([...routing.expert]).toEqual([0]);
  });

  it('needs the scale of learned noise where noise is given', () => {
    const noisy = plain({ score: { function: 'softmax', noise: { kind: 'learned' } } });
    expect(() => route(noisy, [[1, 2]], { noise: table([[1, 1]]) })).toThrow(/noiseScale/);
  });
});

describe('softmax and softplus', () => {
  it('are exact at the ends', () => {
    const into = new Float32Array(2);
    softmax(Float32Array.of(-Infinity, -Infinity), into);
    expect([...into]).toEqual([0, 0]);
    expect([softplus(1000), softplus(-1000), softplus(0)]).toEqual([1000, 0, Math.log(2)]);
  });
});
