import { channel, subscribe, unsubscribe } from 'node:diagnostics_channel';
import { describe, expect, it } from 'vitest';
import { imbalanceOf, loadOf, squaredCv } from '#turnout/router/load.js';
import { LoadTracker } from '#turnout/router/load-tracker.js';
import { plain, route } from '../support/routing.js';

describe('loadOf', () => {
  it('counts what was chosen, kept and dropped', () => {
    const options = plain({ select: { k: 2 }, admit: { formula: 'fixed', capacity: 1 } });
    const load = loadOf(
      route(options, [
        [2, 1, 0],
        [2, 1, 0],
        [0, 1, 2],
      ]),
    );
    expect(load).toEqual({
      load: [2, 3, 1],
      kept: [1, 1, 1],
      dropped: { capacity: 3, 'later-choice': 0, 'bad-row': 0, lost: 0 },
    });
  });
});

describe('imbalanceOf', () => {
  it('is nothing where all are even', () => {
    expect(imbalanceOf([3, 3, 3, 3])).toEqual({
      cv: 0,
      maxVio: 0,
      minOverMean: 1,
      balancedness: 1,
      entropyBits: 2,
      normalisedEntropy: 1,
      gini: 0,
      dead: 0,
    });
  });

  it('is largest where one has all', () => {
    expect(imbalanceOf([0, 8, 0, 0])).toEqual({
      cv: Math.sqrt(3),
      maxVio: 3,
      minOverMean: 0,
      balancedness: 0.25,
      entropyBits: 0,
      normalisedEntropy: 0,
      gini: 0.75,
      dead: 3,
    });
  });

  it('is finite without load, and with one expert', () => {
    expect(imbalanceOf([0, 0])).toMatchObject({ cv: 0, maxVio: 0, balancedness: 1, dead: 2 });
    expect(imbalanceOf([5])).toMatchObject({ normalisedEntropy: 1, gini: 0, dead: 0 });
    expect(squaredCv([], 0)).toBe(0);
    expect(squaredCv([4], 1)).toBe(0);
  });
});

const call = (layer: number, logits: number[][]) => ({ layer, routing: route(plain(), logits) });

describe('LoadTracker', () => {
  it('sums the last calls of each layer', () => {
    const tracker = new LoadTracker({ calls: 2 });
    tracker.record(
      call(0, [
        [1, 0],
        [1, 0],
      ]),
    );
    tracker.record(call(0, [[1, 0]]));
    tracker.record(
      call(0, [
        [0, 1],
        [0, 1],
        [1, 0],
      ]),
    );
    tracker.record(call(3, [[0, 1]]));
    const snapshot = tracker.snapshot();
    expect([...snapshot.keys()]).toEqual([0, 3]);
    expect(snapshot.get(0)).toMatchObject({
      calls: 2,
      tokens: 4,
      load: [2, 2],
      kept: [2, 2],
      dropRate: 0,
      imbalance: { cv: 0 },
    });
    expect(snapshot.get(3)).toMatchObject({ calls: 1, load: [0, 1], imbalance: { dead: 1 } });
    tracker.reset();
    expect(tracker.snapshot().size).toBe(0);
  });

  it('forgets calls that are too old', () => {
    let now = 0;
    const tracker = new LoadTracker({ milliseconds: 100, now: () => now });
    tracker.record(call(0, [[1, 0]]));
    now = 60;
    tracker.record(call(0, [[0, 1]]));
    now = 120;
    expect(tracker.snapshot().get(0)).toMatchObject({ calls: 1, load: [0, 1] });
    now = 1000;
    expect(tracker.snapshot().get(0)).toMatchObject({ calls: 0, tokens: 0, dropRate: 0 });
  });

  it('averages exponentially from the first call on', () => {
    const tracker = new LoadTracker({ emaWeight: 0.25 });
    tracker.record(call(0, [[1, 0]]));
    expect(tracker.snapshot().get(0)!.ema).toMatchObject({ load: [1, 0], maxVio: 1 });
    tracker.record(
      call(0, [
        [0, 1],
        [1, 0],
      ]),
    );
    const { ema } = tracker.snapshot().get(0)!;
    expect(ema.load).toEqual([0.875, 0.125]);
    expect(ema.maxVio).toBeCloseTo(0.75, 12);
    expect(ema.losses.smoothLoad).toBeNull();
  });

  it('follows drops and the losses by tokens', () => {
    const tracker = new LoadTracker();
    const tight = plain({ admit: { formula: 'fixed', capacity: 1 } });
    const crowded = route(tight, [
      [1, 0],
      [1, 0],
      [1, 0],
    ]);
    const single = route(tight, [[0, 1]]);
    for (const routing of [crowded, single]) tracker.record({ layer: 0, routing });
    const { dropRate, dropped, losses } = tracker.snapshot().get(0)!;
    expect(dropRate).toBe(0.5);
    expect(dropped.capacity).toBe(2);
    const share = 2 / (1 + Math.exp(-1));
    expect(losses.switch).toBeCloseTo(share, 6);
  });

  it('listens to a diagnostics channel', () => {
    const tracker = new LoadTracker();
    subscribe('test:layer', tracker.record);
    channel('test:layer').publish({ name: 'any', times: {}, ...call(1, [[1, 0]]) });
    unsubscribe('test:layer', tracker.record);
    expect(tracker.snapshot().get(1)!.calls).toBe(1);
    expect(() => tracker.record('something else')).toThrow(
      expect.objectContaining({ code: 'TURNOUT_INPUT_INVALID' }),
    );
  });

  it.each([
    { calls: 0 },
    { calls: 1.5 },
    { calls: 1e9 },
    { milliseconds: 0 },
    { emaWeight: 0 },
    { emaWeight: 2 },
  ])('refuses %j', (options) => {
    expect(() => new LoadTracker(options)).toThrow(
      expect.objectContaining({ code: 'TURNOUT_OPTIONS_INVALID' }),
    );
  });
});
