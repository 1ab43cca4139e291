import { channel, subscribe, unsubscribe } from 'node:diagnostics_channel';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { imbalanceOf, noDrops } from '#turnout/router/load.js';
import { LoadHistory } from '#turnout/router/load-history.js';
import { LoadTracker } from '#turnout/router/load-tracker.js';
import { type RoutingReport, reportRouting } from '#turnout/router/report.js';
import type { DropReason, Routing } from '#turnout/router/routing.js';
import { plain, route } from '../support/routing.js';

const call = (layer: number, logits: number[][]) => ({ layer, routing: route(plain(), logits) });
const coded = (code: string, message = /./) =>
  expect.objectContaining({ code, message: expect.stringMatching(message) });

/** A history with a clock that the test moves. */
function clocked(options: { bucketMs?: number; buckets?: number } = {}) {
  const clock = { now: 0 };
  return { clock, history: new LoadHistory({ ...options, now: () => clock.now }) };
}

describe('LoadHistory', () => {
  it('sums each layer since the start and over windows, in the order asked', () => {
    const { clock, history } = clocked();
    history.record(call(0, [[1, 0]]));
    clock.now = 5000;
    history.record(call(0, [[0, 1]]));
    history.record(call(3, [[0, 1]]));
    clock.now = 9000;
    const snapshot = history.snapshot([1000, 10_000, 4000]);
    expect([...snapshot.keys()]).toEqual([0, 3]);
    const { total, windows } = snapshot.get(0)!;
    expect(total).toMatchObject({ calls: 2, tokens: 2, load: [1, 1], kept: [1, 1], imbalance: { cv: 0 } });
    expect(windows.map(({ load }) => load)).toEqual([
      [0, 0],
      [1, 1],
      [0, 1],
    ]);
    expect(snapshot.get(3)!.windows[2]).toMatchObject({ calls: 1, load: [0, 1], imbalance: { dead: 1 } });
  });

  it('includes the bucket under way and the one that a window begins in, and none before', () => {
    const { clock, history } = clocked();
    const seen = () => history.snapshot([1000]).get(0)!.windows[0]!.calls;
    clock.now = 1000;
    history.record(call(0, [[1, 0]]));
    expect(seen()).toBe(1);
    clock.now = 2999;
    expect(seen()).toBe(1);
    clock.now = 3000;
    expect(seen()).toBe(0);
  });

  it('forgets what has left the ring, also after a gap of many rounds', () => {
    const { clock, history } = clocked({ bucketMs: 10, buckets: 3 });
    for (const now of [0, 10, 20, 30, 40]) {
      clock.now = now;
      history.record(call(0, [[1, 0]]));
    }
    expect(history.snapshot([30]).get(0)).toMatchObject({ total: { calls: 5 }, windows: [{ calls: 4 }] });
    clock.now = 1_000_000;
    expect(history.snapshot([30]).get(0)).toMatchObject({ total: { calls: 5 }, windows: [{ calls: 0 }] });
    history.record(call(0, [[0, 1]]));
    expect(history.snapshot([30]).get(0)!.windows[0]).toMatchObject({ calls: 1, load: [0, 1] });
  });

  it('means losses by tokens, null where no call could tell', () => {
    const { clock, history } = clocked();
    const empty = { ...route(plain(), [[1, 0]]), tokens: 0 };
    history.record({ layer: 0, routing: empty });
    expect(history.snapshot([1000]).get(0)!.windows[0]!.losses).toMatchObject({ switch: null, z: null });
    const [two, one] = [
      route(plain(), [
        [3, 0],
        [3, 0],
      ]),
      route(plain(), [[0, 1]]),
    ];
    history.record({ layer: 0, routing: two });
    clock.now = 1500;
    history.record({ layer: 0, routing: one });
    const { losses } = history.snapshot([1000]).get(0)!.windows[0]!;
    const expected = (2 * reportRouting(two).losses.z + reportRouting(one).losses.z) / 3;
    expect(losses.z).toBeCloseTo(expected, 12);
    expect(losses.smoothLoad).toBeNull();
  });

  it('tells the same as a tracker of the same calls', () => {
    const { history } = clocked();
    const tracker = new LoadTracker();
    const tight = plain({ select: { k: 2 }, admit: { formula: 'fixed', capacity: 1, scope: 'call' } });
    for (const logits of [
      [
        [1, 0, 2],
        [2, 1, 0],
      ],
      [[0, 1, 2]],
      [
        [Number.NaN, 0, 0],
        [1, 0, 3],
      ],
    ]) {
      for (const listener of [history, tracker]) listener.record({ layer: 1, routing: route(tight, logits) });
    }
    const { ema, ...window } = tracker.snapshot().get(1)!;
    expect(ema.maxVio).toBeGreaterThan(0);
    expect(window.dropped.capacity).toBe(1);
    expect(history.snapshot([1]).get(1)).toEqual({ total: window, windows: [window] });
  });

  it('listens to a diagnostics channel, and refuses what is no call of a layer', () => {
    const { history } = clocked();
    subscribe('test:history', history.record);
    channel('test:history').publish({ name: 'any', times: {}, ...call(1, [[1, 0]]) });
    unsubscribe('test:history', history.record);
    expect(history.snapshot().get(1)).toMatchObject({ total: { calls: 1 }, windows: [] });
    for (const message of ['text', null, { layer: 0, routing: null }]) {
      expect(() => history.record(message)).toThrow(coded('TURNOUT_INPUT_INVALID'));
    }
    expect(() => history.record(call(1, [[1, 0, 0]]))).toThrow(
      coded('TURNOUT_SHAPE_MISMATCH', /expected 2 experts .* got 3/),
    );
  });

  it.each([
    { bucketMs: 0 },
    { bucketMs: Number.NaN },
    { bucketMs: 4e6 },
    { buckets: 0 },
    { buckets: 1.5 },
    { buckets: 1e6 },
  ])('refuses %j', (options) => {
    expect(() => new LoadHistory(options)).toThrow(coded('TURNOUT_OPTIONS_INVALID'));
  });

  it.each([0, -1, Number.NaN, 3001])('refuses a window of %d ms with 3 s kept', (window) => {
    const { history } = clocked({ buckets: 3 });
    expect(() => history.snapshot([3000])).not.toThrow();
    expect(() => history.snapshot([window])).toThrow(coded('TURNOUT_OPTIONS_INVALID', /window/));
  });
});

interface Recorded {
  readonly at: number;
  readonly tokens: number;
  readonly report: RoutingReport;
}

/** The oracle: keeps all calls and adds up those whose bucket ends after the window's begin. */
function naive(calls: readonly Recorded[], experts: number) {
  const sum = (of: (report: RoutingReport) => number) =>
    calls.reduce((all, { report }) => all + of(report), 0);
  const load = Array.from({ length: experts }, (_, e) => sum((report) => report.load[e]!));
  const tokens = calls.reduce((all, one) => all + one.tokens, 0);
  const reasons = Object.keys(noDrops()) as DropReason[];
  const dropped = Object.fromEntries(reasons.map((reason) => [reason, sum((r) => r.dropped[reason])]));
  const drops = Object.values(dropped).reduce((a, b) => a + b, 0);
  const chosen = load.reduce((a, b) => a + b, 0);
  return {
    calls: calls.length,
    tokens,
    load,
    kept: load.map((_, e) => sum((report) => report.kept[e]!)),
    dropped,
    dropRate: chosen === 0 ? 0 : drops / chosen,
    imbalance: imbalanceOf(load),
    z:
      tokens === 0
        ? null
        : calls.reduce((all, { report, tokens: n }) => all + n * report.losses.z, 0) / tokens,
  };
}

describe('LoadHistory beside a naive sum', () => {
  const tight = plain({ select: { k: 2 }, admit: { formula: 'fixed', capacity: 2, scope: 'call' } });
  const routings: readonly Routing[] = [
    route(tight, [[1, 2, 3]]),
    route(tight, [
      [3, 2, 1],
      [3, 2, 1],
      [3, 1, 2],
    ]),
    route(tight, [
      [0, Number.NaN, 1],
      [1, 5, 1],
    ]),
  ];
  const steps = fc.array(
    fc.record({
      wait: fc.oneof(fc.constant(0), fc.integer({ min: 1, max: 25 }), fc.integer({ min: 30, max: 500 })),
      layer: fc.integer({ min: 0, max: 1 }),
      routing: fc.constantFrom(...routings),
    }),
    { minLength: 1, maxLength: 60 },
  );

  it('agrees at any time, for any gaps and windows', () => {
    const ring = fc.record({
      bucketMs: fc.integer({ min: 1, max: 20 }),
      buckets: fc.integer({ min: 1, max: 6 }),
    });
    const shares = fc.array(fc.double({ min: 0.01, max: 1, noNaN: true }), { minLength: 1, maxLength: 3 });
    fc.assert(
      fc.property(steps, ring, shares, fc.nat(60), (all, { bucketMs, buckets }, parts, after) => {
        const { clock, history } = clocked({ bucketMs, buckets });
        const calls: (Recorded & { layer: number })[] = [];
        for (const { wait, layer, routing } of all) {
          clock.now += wait;
          history.record({ layer, routing });
          calls.push({ layer, at: clock.now, tokens: routing.tokens, report: reportRouting(routing) });
        }
        clock.now += after;
        const windows = parts.map((part) => part * bucketMs * buckets);
        for (const [layer, { total, windows: got }] of history.snapshot(windows)) {
          const own = calls.filter((one) => one.layer === layer);
          [total, ...got].forEach((load, w) => {
            const begin = w === 0 ? -1 : clock.now - windows[w - 1]!;
            const within = own.filter(({ at }) => (Math.floor(at / bucketMs) + 1) * bucketMs > begin);
            const { z, ...counts } = naive(within, 3);
            expect(load).toMatchObject(counts);
            if (z === null) expect(load.losses.z).toBeNull();
            else expect(load.losses.z).toBeCloseTo(z, 9);
          });
        }
      }),
    );
  });
});
