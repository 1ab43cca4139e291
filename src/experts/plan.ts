import { parseDevice } from './device.js';
import { fillSlots, type SlotSizes } from './eplb.js';
import type { LanePlan } from './placement.js';
import {
  checkLoads,
  checkPlanOptions,
  type PlanOptions,
  refuse,
  refuseInput,
  wholeNumber,
} from './plan-options.js';

/** Where a layer's experts are, from its slots. */
export interface SlotIndex {
  /** [E] */
  readonly replicaCounts: readonly number[];
  /** [E] the slots of each expert, ascending. */
  readonly slotsOf: readonly (readonly number[])[];
}

/** How evenly devices are loaded: sums over the layers, which run one after the other. */
export interface DeviceBalance {
  /** Sum of the layers' mean device loads. */
  readonly mean: number;
  /** Sum of the layers' largest device loads: what the devices wait for. */
  readonly max: number;
  /** mean / max: the share of its time that a device computes; 1 when even, and without load. */
  readonly balancedness: number;
}

/** Balancedness with each expert once, in blocks of consecutive experts, and with the plan. */
export interface BeforeAfter {
  readonly before: number;
  readonly after: number;
}

export interface LayerPlacement extends SlotIndex {
  /** [R] the expert of each slot; device d has the R/D slots from d*R/D on. */
  readonly slots: readonly number[];
  /** [D] the load to expect: each replica takes an equal share of its expert's. */
  readonly deviceLoads: readonly number[];
  readonly balancedness: BeforeAfter;
}

/** A placement of L layers as plain data. */
export interface PlacementPlan {
  /** `hierarchical`: groups stay on their node; `global`: one node, also where the groups do not divide by the nodes. */
  readonly policy: 'hierarchical' | 'global';
  /** E experts a layer, R slots a layer, D devices, N nodes and G groups that were planned with. */
  readonly experts: number;
  readonly replicas: number;
  readonly devices: number;
  readonly nodes: number;
  readonly groups: number;
  /** Of all layers together. */
  readonly balancedness: BeforeAfter;
  readonly layers: readonly LayerPlacement[];
}

/**
 * loads [L][E], such as the assignments that each expert kept -> which experts get replicas and which device holds them,
 * so that devices are loaded alike (EPLB; see `fillSlots`). The same arguments give the same plan.
 * Throws TURNOUT_INPUT_INVALID for loads and TURNOUT_OPTIONS_INVALID for sizes that do not fit together.
 */
export function planPlacement(loads: readonly (readonly number[])[], options: PlanOptions): PlacementPlan {
  const checked = checkLoads(loads);
  const experts = checked[0].length;
  const sizes = checkPlanOptions(options, { layers: checked.length, experts });
  const layers = checked.map((load) => planLayer(load, sizes));
  const before = checked.map((load) => loadsInBlocks(load, sizes.devices));
  return {
    policy: sizes.nodes > 1 ? 'hierarchical' : 'global',
    experts,
    ...sizes,
    balancedness: {
      before: balanceOf(before).balancedness,
      after: balanceOf(layers.map(({ deviceLoads }) => deviceLoads)).balancedness,
    },
    layers,
  };
}

function planLayer(load: readonly number[], sizes: SlotSizes): LayerPlacement {
  const slots = fillSlots(load, sizes);
  const index = indexSlots(slots, load.length);
  const perDevice = sizes.replicas / sizes.devices;
  const deviceLoads = new Array<number>(sizes.devices).fill(0);
  slots.forEach((expert, slot) => {
    deviceLoads[Math.floor(slot / perDevice)] += load[expert] / index.replicaCounts[expert];
  });
  return {
    slots,
    ...index,
    deviceLoads,
    balancedness: {
      before: balanceOf([loadsInBlocks(load, sizes.devices)]).balancedness,
      after: balanceOf([deviceLoads]).balancedness,
    },
  };
}

/** load [E] -> [D] with each expert once, in blocks of consecutive experts. */
function loadsInBlocks(load: readonly number[], devices: number): number[] {
  const sums = new Array<number>(devices).fill(0);
  load.forEach((count, expert) => {
    sums[Math.floor((expert * devices) / load.length)] += count;
  });
  return sums;
}

/** slots [R] of one layer, -1 where unused -> where each of E experts is. Throws TURNOUT_INPUT_INVALID for no such expert. */
export function indexSlots(slots: readonly number[], experts: number): SlotIndex {
  const slotsOf: number[][] = Array.from({ length: experts }, () => []);
  for (const [slot, expert] of slots.entries()) {
    if (expert === -1) continue;
    const own = slotsOf[expert] ?? refuseInput(`slot ${slot}`, `-1 or an expert below ${experts}`, expert);
    own.push(slot);
  }
  return { replicaCounts: slotsOf.map(({ length }) => length), slotsOf };
}

/** loads [L][D] of devices -> how even they are. */
export function balanceOf(loads: readonly (readonly number[])[]): DeviceBalance {
  let mean = 0;
  let max = 0;
  for (const devices of loads) {
    mean += devices.reduce((sum, load) => sum + load, 0) / Math.max(1, devices.length);
    max += devices.reduce((most, load) => Math.max(most, load), 0);
  }
  return { mean, max, balancedness: max === 0 ? 1 : Math.min(1, mean / max) };
}

/** Guards against a typing error: models have one or two. */
const MAX_SHARED = 64;

/**
 * A plan and the names of its devices [D] -> one lane for each device. A lane lists its experts once, ascending, by their
 * number in a backend over all layers: layer l's expert e is l*(E+S)+e, and its S shared experts, which follow, are on
 * every lane. Throws TURNOUT_OPTIONS_INVALID.
 */
export function planLanes(plan: PlacementPlan, devices: readonly string[], shared = 0): LanePlan[] {
  wholeNumber('shared', shared, MAX_SHARED, 0);
  if (devices.length !== plan.devices) refuse('devices', `${plan.devices} names`, devices.length);
  const perDevice = plan.replicas / plan.devices;
  const perLayer = plan.experts + shared;
  return devices.map((device, d) => {
    const experts = plan.layers.flatMap(({ slots }, l) => {
      const routed = [...new Set(slots.slice(d * perDevice, (d + 1) * perDevice))].sort((a, b) => a - b);
      const always = Array.from({ length: shared }, (_, i) => plan.experts + i);
      return [...routed, ...always].map((expert) => l * perLayer + expert);
    });
    return { device: parseDevice(device).name, experts };
  });
}
