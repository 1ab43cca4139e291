import { describe, expect, it } from 'vitest';
import { createRouter } from '#turnout/router/create.js';
import { lazyMatrix } from '#turnout/router/lazy.js';
import { presetNames, presetOptions } from '#turnout/router/presets.js';
import { softmax } from '#turnout/router/token-choice/score.js';
import { plain, route, table } from '../support/routing.js';

const LOGITS = [
  [1, -Infinity, 2, 0.5],
  [Number.NaN, 0, 0, 0],
  [0, 40, -3, 0],
];

describe('scores that are computed when they are read', () => {
  it.each(['softmax', 'sigmoid', 'sqrt-softplus', 'identity'])(
    '%s: those of the chosen are those of all',
    (name) => {
      for (const bias of [undefined, [0, 0, 3, 1]]) {
        const score = { function: name, ...(bias && { bias }) };
        for (const by of ['score', 'normalised', 'softmax']) {
          const {
            scores,
            score: own,
            token,
            expert,
          } = route(plain({ score, select: { k: 3 }, weigh: { by } }), LOGITS);
          expect([...own]).toEqual(Array.from(token, (t, a) => scores.data[t * 4 + expert[a]!]));
        }
      }
    },
  );

  it('softmax: the definition, zeros for a bad row', () => {
    const { scores } = route(presetOptions('mixtral'), LOGITS);
    const expected = LOGITS.map((row, t) => {
      const into = new Float32Array(4);
      if (t !== 1) softmax(Float32Array.from(row), into);
      return [...into];
    });
    expect([...scores.data]).toEqual(expected.flat());
  });

  it('are those of the expert that overflow moved a token to', () => {
    const admit = { formula: 'fixed', capacity: 1, overflow: 'next-best' };
    const { score, scores, expert } = route(
      plain({ score: { function: 'softmax' }, weigh: { by: 'softmax' }, admit }),
      [
        [1, 0, 0],
        [3, 2, 0],
      ],
    );
    expect([...expert]).toEqual([0, 1]);
    expect([...score]).toEqual([scores.data[0], scores.data[4]]);
  });

  it('go along with copies', () => {
    const routing = route(presetOptions('mixtral'), LOGITS);
    for (const copy of [structuredClone(routing), { ...routing }, JSON.parse(JSON.stringify(routing))]) {
      expect(Object.values(copy.score)).toEqual([...routing.score]);
      expect(Object.values(copy.scores.data)).toEqual([...routing.scores.data]);
    }
  });

  it('are computed once', () => {
    let calls = 0;
    const m = lazyMatrix(1, 1, () => Float32Array.of(++calls));
    expect(calls).toBe(0);
    expect([m.data[0], m.data[0], calls]).toEqual([1, 1, 1]);
  });
});

describe('every preset', () => {
  it.each(presetNames)('%s scores what it chose', (name) => {
    const E = 768;
    const options = presetOptions(name);
    const logits = table(
      Array.from({ length: 9 }, (_, t) => Array.from({ length: E }, (_, e) => Math.sin(t * e + e))),
    );
    const tokenIds = Int32Array.from({ length: 9 }, (_, t) => t);
    const { token, expert, score, scores } = createRouter(options, E).route({ logits, tokenIds });
    expect([...score]).toEqual(Array.from(token, (t, a) => scores.data[t * E + expert[a]!]));
  });
});
