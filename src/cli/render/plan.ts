import type { LanePlan } from '../../experts/placement.js';
import type { LayerPlacement, PlacementPlan } from '../../experts/plan.js';
import { drawHeatMap } from './heat-map.js';
import type { Style } from './style.js';

/** A plan for a terminal: each layer's load by lane, with balancedness and replicas, then what each lane holds. */
export function drawPlan(plan: PlacementPlan, lanes: readonly LanePlan[], style: Style): string {
  const { experts, replicas, devices, layers, balancedness } = plan;
  const rows = layers.map((layer, l) => ({ name: String(l), ...row(layer) }));
  return [
    `${describePolicy(plan)}: ${experts} experts in ${replicas} slots a layer, ${replicas / devices} on each of ${devices} devices`,
    '',
    style.dim("share of each layer's load to expect, in %, by layer and lane"),
    drawHeatMap({ title: 'layer', rows }, style),
    '',
    `balancedness of all layers ${change(balancedness)} (mean / largest load of the devices; before: each expert once, in blocks)`,
    ...describeLanes(plan, lanes),
  ].join('\n');
}

function describePolicy({ policy, nodes, groups }: PlacementPlan): string {
  return policy === 'global' ? 'global' : `hierarchical (${groups} groups on ${nodes} nodes)`;
}

function row({ deviceLoads, balancedness, replicaCounts }: LayerPlacement) {
  const copies = replicaCounts.flatMap((count, expert) => (count > 1 ? [`${expert} x${count}`] : []));
  return {
    shares: sharesOf(deviceLoads),
    note: `balancedness ${change(balancedness)}, replicas ${copies.join(', ') || 'none'}`,
  };
}

function describeLanes(plan: PlacementPlan, lanes: readonly LanePlan[]): string[] {
  const loads = lanes.map((_, d) => plan.layers.reduce((sum, layer) => sum + layer.deviceLoads[d], 0));
  const shares = sharesOf(loads);
  return lanes.map(
    ({ device, experts }, d) =>
      `lane ${d}  ${device}: ${experts.length} experts, load ${Number(loads[d].toPrecision(6))} (${(100 * shares[d]).toFixed(1)} %)`,
  );
}

function sharesOf(loads: readonly number[]): number[] {
  const all = loads.reduce((sum, load) => sum + load, 0);
  return loads.map((load) => (all === 0 ? 0 : load / all));
}

function change({ before, after }: { before: number; after: number }): string {
  return `${before.toFixed(2)} -> ${after.toFixed(2)}`;
}
