import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  balanceOf,
  indexSlots,
  type PlacementPlan,
  type PlanOptions,
  planLanes,
  planPlacement,
} from '#turnout/index.js';

const vectors = (name: string) =>
  JSON.parse(readFileSync(join(import.meta.dirname, '..', 'vectors', `${name}.json`), 'utf8'));
const eplb = vectors('eplb').cases;
const derived: Vector[] = vectors('eplb_derived').cases;
const named = (name: string) => eplb.find((vector: { name: string }) => vector.name === name);

const sum = (values: readonly number[]) => values.reduce((all, value) => all + value, 0);
const largest = (plan: PlacementPlan, layer = 0) => Math.max(...plan.layers[layer].deviceLoads);

/** A case of EPLB, with the slots and the numbers of replicas that it gives. */
interface Vector {
  readonly weight: number[][];
  readonly num_replicas: number;
  readonly num_groups: number;
  readonly num_nodes: number;
  readonly num_gpus: number;
  readonly phy2log: number[][];
  readonly logcnt: number[][];
}

function planOf(vector: Vector): PlacementPlan {
  const { weight, num_replicas: replicas, num_groups: groups, num_nodes: nodes, num_gpus: devices } = vector;
  return planPlacement(weight, { devices, replicas, nodes, groups });
}

describe('the vectors of EPLB', () => {
  it('places the example of its README', () => {
    const vector = named('README hierarchical');
    const plan = planOf(vector);
    expect(plan.policy).toBe('hierarchical');
    expect(plan.layers.map(({ slots }) => slots)).toEqual(vector.phy2log);
    expect(plan.layers.map(({ replicaCounts }) => replicaCounts)).toEqual(vector.logcnt);
  });

  it.each(derived)(
    '$name: $num_replicas slots, $num_groups groups, $num_nodes nodes, $num_gpus devices',
    (v) => {
      const plan = planOf(v);
      expect(plan.layers.map(({ slots }) => slots)).toEqual(v.phy2log);
      expect(plan.layers.map(({ replicaCounts }) => replicaCounts)).toEqual(v.logcnt);
    },
  );

  it('measures the balance of devices over layers', () => {
    const vector = named('load stats');
    expect(balanceOf(vector.tokens_per_rank_slot)).toEqual({
      mean: vector.avg,
      max: vector.max,
      balancedness: vector.balancedness,
    });
    expect(balanceOf([[0, 0]])).toEqual({ mean: 0, max: 0, balancedness: 1 });
    expect(balanceOf([[0.1, 0.1, 0.1]]).balancedness).toBe(1);
  });

  it('finds experts in slots, some of them unused', () => {
    const vector = named('logical maps with unused slots');
    const maps = vector.phy2log.map((slots: number[]) => indexSlots(slots, vector.num_logical));
    expect(maps.map((map: { replicaCounts: number[] }) => map.replicaCounts)).toEqual(vector.logcnt);
    expect(maps[0].slotsOf.flat()).toEqual(vector.log2phy_row0);
    expect(maps[1].slotsOf).toEqual([[4], [3], [2], [0]]);
    expect(() => indexSlots([0, 4], 4)).toThrow(/slot 1: expected -1 or an expert below 4, got 4/);
  });

  const [whole, even, heavy, fallback, uneven, skewed] = named('properties').cases.map(
    ({ weight, args: [replicas, groups, nodes, devices] }: { weight: number[][]; args: number[] }) =>
      () =>
        planPlacement(weight, { replicas, groups, nodes, devices }),
  );

  it('keeps the properties that its tests ask for', () => {
    expect(new Set(whole().layers[0].slots)).toEqual(new Set([0, 1, 2, 3]));
    expect(even().layers[0].replicaCounts).toEqual(new Array(8).fill(1));
    const [most, second] = heavy().layers[0].replicaCounts;
    expect(most).toBeGreaterThan(second);
    const { replicaCounts } = skewed().layers[0];
    expect(replicaCounts[6]).toBeGreaterThanOrEqual(2);
    expect(sum(replicaCounts)).toBe(12);
  });

  it('plans globally where the groups do not divide by the nodes', () => {
    const plan = fallback();
    expect(plan).toMatchObject({ policy: 'global', nodes: 1, groups: 1 });
    expect(plan.layers[0].slots).toHaveLength(8);
    expect(plan.layers[0].replicaCounts).toHaveLength(4);
    expect(plan.layers).toEqual(planPlacement([[10, 20, 30, 40]], { devices: 4, replicas: 8 }).layers);
  });

  it('refuses replicas that the devices do not divide', () => {
    expect(uneven).toThrow(/replicas: expected a multiple of the 4 devices, got 7/);
  });
});

/** Loads, and sizes that fit them. */
const anyCase = fc
  .record({
    nodes: fc.integer({ min: 1, max: 3 }),
    groupsPerNode: fc.integer({ min: 1, max: 3 }),
    groupSize: fc.integer({ min: 1, max: 4 }),
    devicesPerNode: fc.integer({ min: 1, max: 3 }),
    spare: fc.integer({ min: 0, max: 3 }),
    layers: fc.integer({ min: 1, max: 3 }),
  })
  .chain(({ nodes, groupsPerNode, groupSize, devicesPerNode, spare, layers }) => {
    const groups = nodes * groupsPerNode;
    const experts = groups * groupSize;
    const devices = nodes * devicesPerNode;
    const replicas = devices * (Math.ceil(experts / devices) + spare);
    const load = fc.array(fc.nat(1000), { minLength: experts, maxLength: experts });
    return fc.record({
      loads: fc.array(load, { minLength: layers, maxLength: layers }),
      options: fc.constant<Required<PlanOptions>>({ devices, replicas, nodes, groups }),
    });
  });

describe('planPlacement', () => {
  it('gives each expert a replica, fills every slot and accounts for all load', () => {
    fc.assert(
      fc.property(anyCase, ({ loads, options }) => {
        const plan = planPlacement(loads, options);
        expect(plan).toMatchObject({ ...options, experts: loads[0].length });
        plan.layers.forEach(({ slots, replicaCounts, slotsOf, deviceLoads }, l) => {
          expect(slots).toHaveLength(options.replicas);
          expect(Math.min(...replicaCounts)).toBeGreaterThanOrEqual(1);
          expect(sum(replicaCounts)).toBe(options.replicas);
          expect(slotsOf.map((own) => own.map((slot) => slots[slot]))).toEqual(
            replicaCounts.map((count, expert) => new Array(count).fill(expert)),
          );
          expect(sum(deviceLoads)).toBeCloseTo(sum(loads[l]), 6);
          deviceLoads.forEach((load, device) => {
            const perDevice = options.replicas / options.devices;
            const held = slots.slice(device * perDevice, (device + 1) * perDevice);
            expect(load).toBeCloseTo(sum(held.map((expert) => loads[l][expert] / replicaCounts[expert])), 6);
          });
        });
      }),
    );
  });

  it('keeps each group on one node, and as many groups on each', () => {
    fc.assert(
      fc.property(anyCase, ({ loads, options: { groups, nodes, ...sizes } }) => {
        for (const { slotsOf } of planPlacement(loads, { ...sizes, groups, nodes }).layers) {
          const nodesOf = Array.from({ length: groups }, () => new Set<number>());
          slotsOf.forEach((own, expert) => {
            const group = Math.floor((expert * groups) / slotsOf.length);
            for (const slot of own) nodesOf[group].add(Math.floor((slot * nodes) / sizes.replicas));
          });
          const homes = nodesOf.flatMap((set) => [...set]);
          expect(homes).toHaveLength(groups);
          for (let node = 0; node < nodes; node++)
            expect(homes.filter((home) => home === node)).toHaveLength(groups / nodes);
        }
      }),
    );
  });

  it('is the same for the same arguments, leaves them alone, and survives JSON', () => {
    fc.assert(
      fc.property(anyCase, ({ loads, options }) => {
        const copy = structuredClone(loads);
        const plan = planPlacement(loads, options);
        expect(loads).toEqual(copy);
        expect(JSON.parse(JSON.stringify(planPlacement(copy, options)))).toEqual(plan);
      }),
    );
  });

  it('chooses the numbers of replicas whose largest share is least', () => {
    const small = fc.tuple(
      fc.array(fc.nat(50), { minLength: 1, maxLength: 4 }),
      fc.integer({ min: 0, max: 4 }),
    );
    fc.assert(
      fc.property(small, ([load, spare]) => {
        const [{ replicaCounts }] = planPlacement([load], {
          devices: 1,
          replicas: load.length + spare,
        }).layers;
        const share = (counts: readonly number[]) => Math.max(...load.map((value, e) => value / counts[e]));
        const all = countsOf(load.length, load.length + spare).map(share);
        expect(share(replicaCounts)).toBeCloseTo(Math.min(...all), 5);
      }),
    );
  });

  it('stays within 4/3 of the best packing of its replicas', () => {
    const small = fc.array(fc.integer({ min: 1, max: 60 }), { minLength: 1, maxLength: 8 });
    fc.assert(
      fc.property(small, fc.integer({ min: 1, max: 4 }), (load, devices) => {
        const plan = planPlacement([load], { devices });
        const [{ slots, replicaCounts }] = plan.layers;
        const best = bestPacking(
          slots.map((e) => load[e] / replicaCounts[e]),
          devices,
        );
        expect(largest(plan)).toBeLessThanOrEqual((best * 4) / 3 + 1e-9);
        expect(largest(plan)).toBeGreaterThanOrEqual(best - 1e-9);
      }),
    );
  });

  it.each([
    ['nearly even', 0.99, (rank: number) => 1000 + 10 * rank],
    ['falling as 1/rank', 0.99, (rank: number) => 10_000 / rank],
    // Nine replicas on four devices: one device has three of them.
    ['most on one expert', 0.79, (rank: number) => (rank === 1 ? 50_000 : 300 + rank)],
  ])('loads the fullest device less than without replicas, and than blocks: %s', (_, least, shape) => {
    for (let seed = 1; seed <= 20; seed++) {
      const load = Array.from({ length: 32 }, (_, e) => shape(((e * (2 * seed + 1)) % 32) + 1));
      const plan = planPlacement([load], { devices: 4, replicas: 40 });
      const without = planPlacement([load], { devices: 4 });
      expect(largest(plan)).toBeLessThanOrEqual(largest(without) * (1 + 1e-9));
      const { before, after } = plan.layers[0].balancedness;
      expect(after).toBeGreaterThanOrEqual(before);
      expect(after).toBeGreaterThan(least);
    }
  });

  it('compares with each expert once, in blocks over the devices', () => {
    const plan = planPlacement(
      [
        [8, 0, 1, 1],
        [1, 1, 1, 1],
      ],
      { devices: 2, replicas: 6 },
    );
    expect(plan.layers.map(({ balancedness }) => balancedness.before)).toEqual([5 / 8, 1]);
    expect(plan.balancedness.before).toBe(7 / 10);
    const after = sum(plan.layers.map(({ deviceLoads }) => Math.max(...deviceLoads)));
    expect(plan.balancedness.after).toBe(7 / after);
    expect(planPlacement([[4]], { devices: 2 }).layers[0]).toMatchObject({
      slots: [0, 0],
      balancedness: { before: 0.5, after: 1 },
    });
  });

  it('rounds the slots up to the devices where no number is given', () => {
    const slots = (experts: number, devices: number) =>
      planPlacement([new Array(experts).fill(1)], { devices }).replicas;
    expect([slots(8, 2), slots(8, 3), slots(2, 5)]).toEqual([8, 9, 5]);
  });

  it.each([
    [{ devices: 0 }, /devices: expected a whole number from 1 to 1024, got 0/],
    [{ devices: 1025 }, /devices: .* got 1025/],
    [{ devices: 1.5 }, /devices: .* got 1.5/],
    [{ devices: Number.NaN }, /devices: .* got NaN/],
    [{}, /devices: .* got undefined/],
    [{ devices: '2' }, /devices: .* got "2"/],
    [{ devices: 2, replicas: 2 }, /replicas: expected at least one for each of the 4 experts, got 2/],
    [{ devices: 2, replicas: 5 }, /replicas: expected a multiple of the 2 devices, got 5/],
    [{ devices: 2, replicas: 65_538 }, /replicas: expected a whole number from 1 to 65536, got 65538/],
    [{ devices: 2, replicas: 40_000 }, /replicas: expected at most 65536 over all 2 layers, got 80000/],
    [{ devices: 3, replicas: 6, nodes: 2 }, /devices: expected a multiple of the 2 nodes, got 3/],
    [{ devices: 2, nodes: 0 }, /nodes: expected a whole number/],
    [{ devices: 2, groups: -1 }, /groups: expected a whole number/],
    [{ devices: 2, groups: 3 }, /groups: expected a divisor of the 4 experts, got 3/],
  ])('refuses the options %j', (options, message) => {
    const loads = [
      [1, 2, 3, 4],
      [4, 3, 2, 1],
    ];
    const plan = () => planPlacement(loads, options as PlanOptions);
    expect(plan).toThrow(message);
    expect(plan).toThrow(expect.objectContaining({ code: 'TURNOUT_OPTIONS_INVALID' }));
  });

  it.each([
    [undefined, /loads: expected a list of at least one layer, got undefined/],
    [[], /loads: expected a list of at least one layer, got \[\]/],
    [[[]], /loads, layer 0: expected a list of at least one expert, got \[\]/],
    [[1, 2], /loads, layer 0: expected a list .* got 1/],
    [[[1, 2], [1]], /loads, layer 1: expected 2 experts as in layer 0, got 1/],
    [[[1, Number.NaN]], /loads, layer 0, expert 1: expected a number from 0 .* got NaN/],
    [[[1, -1]], /expert 1: .* got -1/],
    [[[Infinity, 1]], /expert 0: .* got Infinity/],
    [[[1e300, 1]], /expert 0: .* got 1e\+300/],
    [[['1', 1]], /expert 0: .* got "1"/],
    [[new Array(3)], /expert 0: .* got undefined/],
  ])('refuses the loads %j', (loads, message) => {
    const plan = () => planPlacement(loads as number[][], { devices: 1 });
    expect(plan).toThrow(message);
    expect(plan).toThrow(expect.objectContaining({ code: 'TURNOUT_INPUT_INVALID' }));
  });
});

describe('planLanes', () => {
  const plan = planPlacement(
    [
      [90, 5, 3, 2],
      [10, 40, 40, 10],
    ],
    { devices: 2, replicas: 6 },
  );

  it('numbers experts over the layers, and lists a replica that a device has twice once', () => {
    expect(plan.layers.map(({ slots }) => slots)).toEqual([
      [0, 0, 3, 0, 1, 2],
      [1, 1, 0, 2, 2, 3],
    ]);
    expect(planLanes(plan, ['cpu:0', 'cuda:1'])).toEqual([
      { device: 'cpu:0', experts: [0, 3, 4, 5] },
      { device: 'cuda:1', experts: [0, 1, 2, 6, 7] },
    ]);
  });

  it('puts the shared experts of each layer after its routed ones, on every lane', () => {
    expect(planLanes(plan, ['cpu', 'cpu'], 2)).toEqual([
      { device: 'cpu', experts: [0, 3, 4, 5, 6, 7, 10, 11] },
      { device: 'cpu', experts: [0, 1, 2, 4, 5, 8, 9, 10, 11] },
    ]);
  });

  it('leaves no expert out', () => {
    fc.assert(
      fc.property(anyCase, fc.nat(2), ({ loads, options }, shared) => {
        const any = planPlacement(loads, options);
        const lanes = planLanes(any, new Array(options.devices).fill('cpu'), shared);
        const all = new Set(lanes.flatMap(({ experts }) => experts));
        expect([...all].sort((a, b) => a - b)).toEqual([
          ...new Array(loads.length * (loads[0].length + shared)).keys(),
        ]);
        for (const { experts } of lanes) expect(experts).toEqual([...new Set(experts)].sort((a, b) => a - b));
      }),
    );
  });

  it.each([
    [['cpu'], 0, /devices: expected 2 names, got 1/],
    [['cpu', 'CPU!'], 0, /device: expected cpu/],
    [['cpu', 'cpu'], -1, /shared: expected a whole number from 0/],
    [['cpu', 'cpu'], 1000, /shared: .* got 1000/],
  ])('refuses %j with %i shared experts', (devices, shared, message) => {
    const lanes = () => planLanes(plan, devices, shared);
    expect(lanes).toThrow(message);
    expect(lanes).toThrow(expect.objectContaining({ code: 'TURNOUT_OPTIONS_INVALID' }));
  });
});

/** Every way to give n experts at least one of `slots` replicas each, none over. */
function countsOf(n: number, slots: number): number[][] {
  if (n === 1) return [[slots]];
  return Array.from({ length: slots - n + 1 }, (_, i) => i + 1).flatMap((first) =>
    countsOf(n - 1, slots - first).map((rest) => [first, ...rest]),
  );
}

/** The least largest sum of any way to put equally many items into each pack. */
function bestPacking(items: readonly number[], packs: number): number {
  const room = items.length / packs;
  const sums = new Array<number>(packs).fill(0);
  const held = new Array<number>(packs).fill(0);
  const place = (i: number): number => {
    if (i === items.length) return Math.max(...sums);
    let best = Infinity;
    for (let p = 0; p < packs; p++) {
      if (held[p] === room) continue;
      held[p]++;
      sums[p] += items[i];
      best = Math.min(best, place(i + 1));
      held[p]--;
      sums[p] -= items[i];
      if (held[p] === 0) break; // Empty packs are alike.
    }
    return best;
  };
  return place(0);
}
