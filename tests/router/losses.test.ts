import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { lossesOf, smoothLoadLoss } from '#turnout/router/losses.js';
import { plain, route, table, vectors } from '../support/routing.js';

const cases = Object.fromEntries(
  vectors('vmoe_aux_losses').cases.map((entry: { name: string }) => [entry.name, entry]),
);
const softmax = (k: number) => plain({ score: { function: 'softmax' }, select: { k } });
/** Gates of a vector as logits: softmax gives them back. */
const gates = (entry: { gates: number[][] }) => entry.gates.map((row) => row.map(Math.log));
/** T tokens over E experts, every choice taken equally often. */
const even = (T: number, E: number) =>
  Array.from({ length: T }, (_, t) =>
    Array.from({ length: E }, (_, e) => ((t + e) % E === 0 ? 2 : (t + e) % E === 1 ? 1 : 0)),
  );

describe('the losses of V-MoE', () => {
  it('gshard', () => {
    const { gshard_auxiliary_loss: entry } = cases;
    expect(lossesOf(route(softmax(1), gates(entry))).gshard).toBeCloseTo(entry.expected, entry.places);
  });

  it('importance', () => {
    const { importance_auxiliary_loss: entry } = cases;
    expect(lossesOf(route(softmax(1), gates(entry))).importancePopulation).toBeCloseTo(
      entry.expected,
      entry.places,
    );
  });

  it('load', () => {
    const { load_auxiliary_loss: entry } = cases;
    const noise = { added: table(entry.noise), deviation: entry.noise_std };
    expect(smoothLoadLoss(table(entry.logits), noise, entry.k)).toBeCloseTo(entry.expected, entry.places - 1);
    expect(lossesOf(route(softmax(entry.k), entry.logits), { noise }).smoothLoad).toBeCloseTo(
      entry.expected,
      entry.places - 1,
    );
  });
});

describe('lossesOf', () => {
  it('has the scale of its variant where all is balanced', () => {
    const losses = lossesOf(route(softmax(2), even(12, 4)));
    expect(losses.switch).toBeCloseTo(1, 6);
    expect(losses.hf).toBeCloseTo(2, 6);
    expect(losses.gshard).toBeCloseTo(1, 6);
    expect(losses.sequenceWise).toBeCloseTo(1, 6);
    for (const key of ['importancePopulation', 'importanceSample', 'loadPopulation', 'loadSample'] as const) {
      expect(losses[key]).toBeCloseTo(0, 10);
    }
    expect(losses.smoothLoad).toBeNull();
  });

  it('counts choices before drops', () => {
    const logits = [
      [5, 0],
      [5, 0],
      [5, 0],
    ];
    const dropless = lossesOf(route(softmax(1), logits));
    const tight = lossesOf(
      route(plain({ score: { function: 'softmax' }, admit: { formula: 'fixed', capacity: 1 } }), logits),
    );
    expect(tight).toEqual(dropless);
    expect(dropless.switch).toBeCloseTo(2 / (1 + Math.exp(-5)), 6);
    expect(dropless.loadPopulation).toBeCloseTo(1, 10);
    expect(dropless.loadSample).toBeCloseTo(2, 10);
  });

  it('gives the z-loss of ST-MoE', () => {
    expect(
      lossesOf(
        route(softmax(1), [
          [0, 0, 0, 0],
          [1, -Infinity, -Infinity, -Infinity],
        ]),
      ).z,
    ).toBeCloseTo((Math.log(4) ** 2 + 1) / 2, 6);
  });

  it("means DeepSeek's loss over sequences", () => {
    const logits = [
      [3, 0],
      [3, 0],
      [0, 3],
      [0, 3],
    ];
    const one = 2 / (1 + Math.exp(-3));
    const losses = (sequences: number[]) => lossesOf(route(softmax(1), logits), { sequences }).sequenceWise;
    expect(losses([2, 2])).toBeCloseTo(one, 6);
    expect(losses([4])).toBeCloseTo(1, 6);
    expect(losses([0, 4])).toBeCloseTo(1, 6);
  });

  it('is 0 without tokens, and leaves bad rows out', () => {
    const empty = lossesOf(route(softmax(1), [[1, 2]], {}));
    expect(Object.values(empty).every((value) => value === null || Number.isFinite(value))).toBe(true);
    const none = lossesOf(route(softmax(1), [[Number.NaN, 2]]));
    expect(none).toEqual({ ...none, switch: 0, hf: 0, gshard: 0, z: 0, sequenceWise: 0, loadPopulation: 0 });
    const good = lossesOf(
      route(softmax(1), [
        [1, 2],
        [3, 1],
      ]),
    );
    expect(
      lossesOf(
        route(softmax(1), [
          [1, 2],
          [Number.NaN, 0],
          [3, 1],
        ]),
      ),
    ).toEqual(good);
  });

  it('does not care about the order of tokens', () => {
    const rows = fc.array(fc.array(fc.integer({ min: -5, max: 5 }), { minLength: 4, maxLength: 4 }), {
      minLength: 1,
      maxLength: 9,
    });
    fc.assert(
      fc.property(rows, (logits) => {
        const [a, b] = [logits, logits.toReversed()].map((order) => lossesOf(route(softmax(2), order)));
        for (const [name, value] of Object.entries(a!)) {
          if (value !== null) expect(b![name as 'z']).toBeCloseTo(value, 9);
        }
      }),
    );
  });
});
