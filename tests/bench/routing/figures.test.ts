import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { readPackage } from '#turnout/model/package.js';
import { createRouter } from '#turnout/router/create.js';
import type { RouterOptions } from '#turnout/router/options.js';
import { costOfRouting, costOfSize, costsOf } from '../../../dist/bench/routing/cost.js';
import { paretoFront } from '../../../dist/bench/routing/front.js';
import { openSynthetic } from '../../../dist/bench/routing/synthetic.js';
import { CallTimes } from '../../../dist/bench/routing/times.js';
import { BABEL } from '../../support/babel.js';
import { benchRouting, find } from '../../support/bench.js';
import { plain, table } from '../../support/routing.js';

const open = () =>
  openSynthetic({
    shape: 'zipf',
    experts: 6,
    tokens: 90,
    window: 20,
    perCall: 2,
    seed: 5,
    cost: costOfSize({ hidden: 10, inner: 7, activation: 'plain' }),
  });

/** Chosen experts [T][k] of a softmax rule: the largest logits. */
function best(logits: readonly number[], k: number): number[] {
  const order = logits.map((_, e) => e).sort((a, b) => logits[b]! - logits[a]! || a - b);
  return order.slice(0, k);
}

/** The logits of all calls, sequence by sequence. */
async function sequencesOf(source: ReturnType<typeof open>): Promise<number[][][]> {
  const options = plain({ select: { k: 1 } }) as RouterOptions;
  const rule = { options: [options], routers: [createRouter(options, 6)] };
  const all: number[][][] = [];
  for (let call = 0; call < source.calls; call++) {
    const { layers, sequences } = await source.run(call, rule);
    let t = 0;
    for (const { tokens } of sequences) {
      const { data } = layers[0]!.routing.logits;
      all.push(Array.from({ length: tokens }, (_, i) => [...data.subarray((t + i) * 6, (t + i + 1) * 6)]));
      t += tokens;
    }
  }
  return all;
}

describe('the figures of a row', () => {
  it('are those of plain loops: loads, drops, moves, imbalance, losses and cost', async () => {
    const source = open();
    const sequences = await sequencesOf(source);
    expect(sequences.map(({ length }) => length)).toEqual([20, 20, 20, 20, 10]);
    const flags = { presets: 'mixtral', factors: '1', priorities: 'token-major', scopes: 'sequence' };
    const { rows } = await benchRouting(source, flags);
    for (const overflow of ['drop', 'next-best']) {
      const row = find(rows, { overflow, scope: 'sequence' });
      const [load, kept] = [new Array(6).fill(0), new Array(6).fill(0)];
      let [moved, lost, z] = [0, 0, 0];
      const touched = new Set<string>();
      const P = new Array<number>(6).fill(0);
      const tried = new Array(6).fill(0);
      sequences.forEach((logits, s) => {
        const capacity = Math.ceil((logits.length * 2) / 6);
        const held = new Array(6).fill(0);
        for (const own of logits) {
          const mass = own.reduce((sum, value) => sum + Math.exp(value), 0);
          own.forEach((value, e) => {
            P[e]! += Math.exp(value) / mass / 90;
          });
          z += Math.log(mass) ** 2 / 90;
          const chosen = best(own, 2);
          const has: number[] = [...chosen];
          let served = 0;
          chosen.forEach((expert, c) => {
            let to = expert;
            if (held[to] >= capacity && overflow === 'next-best') {
              const room = best(own, 6).filter((e) => held[e] < capacity && !has.includes(e));
              to = room[0] ?? expert;
              has[c] = to;
            }
            tried[to]++;
            if (held[to] >= capacity) return;
            held[to]++;
            kept[to]++;
            touched.add(`call ${Math.floor(s / 2)} expert ${to}`);
            served++;
            if (to !== expert) moved++;
          });
          if (served === 0) lost++;
        }
      });
      for (const e of [0, 1, 2, 3, 4, 5]) load[e] = tried[e];
      expect(row.layers[0]).toMatchObject({ load, kept });
      const sum = kept.reduce((a, b) => a + b, 0);
      expect(row.drops).toMatchObject({ chosen: 180, kept: sum, tokensDropped: lost, rerouted: moved });
      expect(row.drops.dropRate).toBeCloseTo(1 - sum / 180, 12);
      const mean = 30;
      const deviation = Math.sqrt(load.reduce((all, n) => all + (n - mean) ** 2, 0) / 6);
      expect(row.load.cv).toBeCloseTo(deviation / mean, 10);
      expect(row.load.maxVio).toBeCloseTo(Math.max(...load) / mean - 1, 10);
      expect(row.load.balancedness).toBeCloseTo(mean / Math.max(...load), 10);
      const entropy = load.reduce((bits, n) => bits - (n === 0 ? 0 : (n / 180) * Math.log2(n / 180)), 0);
      expect(row.load.entropyBits).toBeCloseTo(entropy, 10);
      expect(row.load.dead).toBe(load.filter((n) => n === 0).length);
      expect(row.losses.z).toBeCloseTo(z, 6);
      // Two matrices of 10 x 7; a call of some sequences reads the weights of each expert with rows once.
      expect(row.cost!.flopsPerToken).toBeCloseTo((sum * 4 * 70) / 90, 8);
      expect(row.cost!.bytesPerToken).toBeCloseTo((touched.size * 560 + sum * 80) / 90, 8);
    }
    // Of one call in all, the switch loss is E * sum of f * P.
    const whole = openSynthetic({ shape: 'zipf', experts: 6, tokens: 90, window: 90, perCall: 1, seed: 5 });
    const { rows: single } = await benchRouting(whole, { presets: 'mixtral', factors: 'none' });
    const logits = (await sequencesOf(whole))[0]!;
    const P = logits[0]!.map(
      (_, e) =>
        logits.reduce((all, own) => all + Math.exp(own[e]!) / own.reduce((m, v) => m + Math.exp(v), 0), 0) /
        90,
    );
    const f = P.map((_, e) => logits.filter((own) => best(own, 2).includes(e)).length / 180);
    expect(single[0]!.losses.switch).toBeCloseTo(6 * f.reduce((all, share, e) => all + share * P[e]!, 0), 8);
  });
});

describe('costs', () => {
  it('of babel are 3 matrices of 128 x 256 in float32', async () => {
    const costs = await costsOf(await readPackage(BABEL));
    expect(costs).toEqual(new Array(4).fill({ flopsPerRow: 196_608, weightBytes: 393_216, rowBytes: 512 }));
    expect(costs[0]).toEqual(costOfSize({ hidden: 128, inner: 256, activation: 'gated' }));
    const { statSync } = await import('node:fs');
    expect(costs[0]!.weightBytes).toBe(statSync(join(BABEL, 'layer-00', 'expert-000.bin')).size);
  });

  it('count kept rows, experts with rows once, and nothing for zero-computation experts', () => {
    const router = createRouter(plain({ zeroComputation: { zero: 1 } }) as RouterOptions, 4);
    // Two tokens to expert 0, one to expert 2, one to the zero expert.
    const logits = table([
      [9, 0, 0, 0],
      [9, 0, 0, 0],
      [0, 0, 9, 0],
      [0, 0, 0, 9],
    ]);
    const cost = { flopsPerRow: 100, weightBytes: 1000, rowBytes: 10 };
    expect(costOfRouting(router.route({ logits }), router.computed, cost)).toEqual({
      flops: 300,
      bytes: 2 * 1000 + 3 * 2 * 10,
    });
  });
});

describe('the Pareto front', () => {
  it('holds what nothing beats; equal points stand together', () => {
    const points = [
      { bits: 1, cost: 9 },
      { bits: 2, cost: 2 },
      { bits: 2, cost: 2 },
      { bits: 2, cost: 3 },
      { bits: 3, cost: 2 },
      { bits: 9, cost: 1 },
    ];
    expect(paretoFront(points)).toEqual([true, true, true, false, false, true]);
  });
});

describe('times', () => {
  it('sum the stages of a call, and tell each stage by itself', () => {
    const times = new CallTimes();
    const sequences = [{ domain: 'a', tokens: 10, bits: null }];
    for (const ms of [1, 2, 3, 4]) {
      // biome-ignore lint/suspicious/noExplicitAny: only the stages of a layer matter here
      const layer = { stages: { route: ms, dispatch: 1 } } as any;
      times.add({ sequences, layers: [layer, layer], trunkMs: 10 });
    }
    expect(times.figures()).toEqual({
      // 40 tokens in 14 + 16 + 18 + 20 ms.
      tokensPerSecond: 40_000 / 68,
      call: { p10: 14, p50: 18, p90: 20, p99: 20, samples: 4 },
      stages: { trunk: { p50: 10, p99: 10 }, route: { p50: 3, p99: 4 }, dispatch: { p50: 1, p99: 1 } },
    });
  });
});
