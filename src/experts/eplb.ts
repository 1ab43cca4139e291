/** How one layer is laid out: nodes divide devices, devices divide replicas, nodes divide groups, groups divide experts. */
export interface SlotSizes {
  /** R slots, at least E. */
  readonly replicas: number;
  readonly devices: number;
  /** Devices of a node talk faster among themselves; 1 balances over all devices alike. */
  readonly nodes: number;
  /** Groups of consecutive experts that stay on one node, as group-limited routing wants it. */
  readonly groups: number;
}

/**
 * load [E] -> [R] the expert of each slot; device d has the R/D slots from d*R/D on.
 *
 * Source: EPLB (deepseek-ai/EPLB), the balancer of the DeepSeek-V3 report, section 3.4. Groups go to nodes, experts get
 * replicas within their node, replicas go to the devices of the node. Every choice falls as there: loads are compared in
 * float32, and ties go to the lower index (so without any load expert 0 has all the replicas to spare). A device may get
 * two replicas of one expert. What differs: one layer at a time, and every map is derived from the slots (`indexSlots`).
 */
export function fillSlots(load: readonly number[], sizes: SlotSizes): number[] {
  const { replicas, devices, nodes } = sizes;
  return expertsByNode(load, sizes).flatMap((experts) => {
    const own = Float32Array.from(experts, (expert) => load[expert]);
    const { copies, counts } = replicate(own, replicas / nodes);
    const shares = Float32Array.from(copies, (i) => own[i] / counts[i]);
    return pack(shares, devices / nodes)
      .flat()
      .map((slot) => experts[copies[slot]]);
  });
}

/** load [E] -> [N][E/N] the experts of each node, whole groups in the order in which they came to it. */
function expertsByNode(load: readonly number[], { nodes, groups }: SlotSizes): number[][] {
  const size = load.length / groups;
  const members = Array.from({ length: groups }, (_, g) =>
    Array.from({ length: size }, (_, i) => g * size + i),
  );
  const sums = Float32Array.from(members, (experts) =>
    experts.reduce((sum, e) => sum + Math.fround(load[e]), 0),
  );
  return pack(sums, nodes).map((held) => held.flatMap((group) => members[group]));
}

/**
 * weights [n] -> copies [slots]: each item once, then one more at a time of the item whose copies carry most; counts [n].
 * No other counts have a smaller largest share.
 */
function replicate(weights: Float32Array, slots: number): { copies: number[]; counts: number[] } {
  const copies = Array.from(weights, (_, i) => i);
  const counts = new Array<number>(weights.length).fill(1);
  while (copies.length < slots) {
    let heaviest = 0;
    let most = -1;
    for (let i = 0; i < weights.length; i++) {
      const share = Math.fround(weights[i] / counts[i]);
      if (share > most) [heaviest, most] = [i, share];
    }
    copies.push(heaviest);
    counts[heaviest]++;
  }
  return { copies, counts };
}

/**
 * weights [n] -> [packs][n/packs] items: heaviest first, each to the lightest pack that has room. Packs of one item
 * keep the order of the items.
 */
function pack(weights: Float32Array, packs: number): number[][] {
  const items = Array.from(weights, (_, i) => i);
  const room = items.length / packs;
  if (room === 1) return items.map((item) => [item]);
  const held: number[][] = Array.from({ length: packs }, () => []);
  const sums = new Float32Array(packs);
  for (const item of items.sort((a, b) => weights[b] - weights[a] || a - b)) {
    let lightest = -1;
    for (let p = 0; p < packs; p++) {
      if (held[p].length < room && (lightest < 0 || sums[p] < sums[lightest])) lightest = p;
    }
    held[lightest].push(item);
    sums[lightest] += weights[item];
  }
  return held;
}
