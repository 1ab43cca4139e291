import { openGate } from '../../src/gate.js';
import { planDispatch } from '../../src/router/plan.js';
import { batchesOf, programOf } from '../experts/bare-programs.js';
import type { BareExperts } from '../peers/bare-experts.js';
import type { BareProcesses } from '../peers/bare-processes.js';
import type { Contender } from '../support/measure.js';
import { expertBytes } from '../support/weights.js';
import { LeastLayer } from './least.js';
import { bandwidthOf, type Machine, peakOf } from './machine.js';
import { rowFlops } from './shapes.js';
import type { LayerCase, LayerSource } from './source.js';

/** What a call asks of the experts. */
export interface Work {
  /** Of each expert that has any, most first. */
  readonly rows: readonly number[];
  readonly flops: number;
  /** Of the weights that are read, once each, and of the rows in and out. */
  readonly bytes: number;
}

export function workOf({ shape, router }: LayerSource, { logits }: LayerCase): Work {
  const { offsets } = planDispatch(router.route({ logits }));
  const counts = Array.from({ length: shape.experts }, (_, e) => offsets[e + 1]! - offsets[e]!);
  const rows = counts.filter((count) => count > 0).sort((a, b) => b - a);
  const all = rows.reduce((sum, count) => sum + count, 0);
  const weights = rows.length * expertBytes(shape);
  return { rows, flops: all * rowFlops(shape), bytes: weights + 2 * 4 * all * shape.hidden };
}

/** The least time of a call on this machine, by what bounds it. */
export interface Floor {
  readonly ms: number;
  readonly bound: 'memory' | 'compute';
}

/**
 * The longer of reading all bytes at the measured bandwidth and of all operations at the measured peak, on `lanes` cores.
 * Weights that fit into the last cache need not be read from memory each time: then operations alone count.
 */
export function floorOf({ flops, bytes }: Work, machine: Machine, lanes: 'one' | 'all'): Floor {
  const computeMs = flops / peakOf(machine, lanes) / 1e6;
  const memoryMs = bytes > machine.cacheBytes ? bytes / bandwidthOf(machine, lanes) / 1e6 : 0;
  return memoryMs > computeMs ? { ms: memoryMs, bound: 'memory' } : { ms: computeMs, bound: 'compute' };
}

/** Names of the limit's runs: all lanes in both orders, and one lane alone; and of those of the least layer. */
export const LIMITS = {
  plan: 'limit plan',
  longest: 'limit longest',
  one: 'limit one lane',
  leastPlan: 'least plan',
  leastLongest: 'least longest',
  leastProcesses: 'least processes',
} as const;

/** What bounds one layer call here. */
export interface Limits {
  /** The expert calls, with nothing around them: the lanes have the rows before, and throw outputs away. */
  readonly runs: readonly Contender[];
  /** The least layer on threads, in both orders, and in processes. Each gives y [T, H]. */
  readonly least: readonly { readonly name: string; run(): Promise<Float32Array> }[];
  close(): Promise<void>;
}

export interface LimitParts {
  readonly source: LayerSource;
  readonly lanes: number;
  readonly bare: BareExperts;
  /** Absent where no processes are measured. */
  readonly bareProcesses: BareProcesses | undefined;
}

/** The least layer is left out where the rule may not be that of the fused operators. */
export async function openLimits(
  call: LayerCase,
  { source, lanes, bare, bareProcesses }: LimitParts,
): Promise<Limits> {
  const { hidden, experts } = source.shape;
  const batches = batchesOf(call, source.router);
  const [plan, longest] = [
    programOf('plan', batches, { hidden, experts }),
    programOf('longest', batches, { hidden, experts }),
  ];
  const idle = Array.from({ length: lanes - 1 }, () => []);
  const ready = [plan, longest, { ...plan, queues: [...plan.queues, ...idle] }];
  const names = [LIMITS.plan, LIMITS.longest, LIMITS.one];
  const runs = names.map((name, i) => ({ name, run: async () => bare.run(i) }));
  if (!source.set) {
    bare.load(ready);
    return { runs, least: [], close: async () => {} };
  }
  const gate = await openGate(source.gates[call.load].path, hidden, experts);
  const layer = new LeastLayer(call, source, { gate, batches });
  bare.load([...ready, ...[plan, longest].map(({ queues }) => ({ calls: layer.calls, queues }))]);
  await bareProcesses?.load(layer.programs(bareProcesses.count));
  const onThreads = (program: number) => {
    layer.handOver();
    return bare.runAside(program);
  };
  const ways: [string, () => Promise<void>][] = [
    [LIMITS.leastPlan, () => onThreads(ready.length)],
    [LIMITS.leastLongest, () => onThreads(ready.length + 1)],
  ];
  if (bareProcesses) ways.push([LIMITS.leastProcesses, () => bareProcesses.run(call.x.data, layer.y)]);
  const least = ways.map(([name, compute]) => ({ name, run: () => layer.forward(compute) }));
  return { runs, least, close: () => gate.close() };
}
