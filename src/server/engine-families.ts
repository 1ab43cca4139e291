import type { LaneStats } from '../experts/backend.js';
import type { EngineSnapshot, LayerSnapshot } from '../model/engine-snapshot.js';

export interface Sample {
  readonly labels: Readonly<Record<string, string | number>>;
  readonly value: number;
  /** Only in histograms, whose samples have longer names than they have. */
  readonly metricName?: string;
}

/** One metric of the engine, read from its snapshot. */
export interface Family {
  readonly name: string;
  readonly help: string;
  readonly type: 'counter' | 'gauge' | 'histogram';
  readonly read: (snapshot: EngineSnapshot) => Sample[];
}

/** With more experts in all layers than this they get no series: the text would be megabytes, for every scrape. */
export const MAX_EXPERT_SERIES = 10_000;

/** In a record, so that a state that is added must stand here. */
const LANE_STATES = Object.keys({
  starting: true,
  ready: true,
  busy: true,
  draining: true,
  dead: true,
} satisfies Record<LaneStats['state'], true>);

const engine: readonly Family[] = [
  {
    name: 'turnout_num_requests_running',
    help: 'Sequences that the engine steps.',
    type: 'gauge',
    read: ({ running }) => [one(running)],
  },
  {
    name: 'turnout_cache_usage_ratio',
    help: 'Cache blocks in use over those that may be, 0 to 1.',
    type: 'gauge',
    read: ({ cache }) => [one(cache.limit === 0 ? 0 : cache.used / cache.limit)],
  },
  {
    name: 'turnout_steps_total',
    help: 'Steps of the engine.',
    type: 'counter',
    read: ({ steps }) => [one(steps)],
  },
  {
    name: 'turnout_step_rows',
    help: 'Rows that passed the layers together in a step.',
    type: 'histogram',
    read: ({ stepRows }) => histogram('turnout_step_rows', stepRows),
  },
  {
    name: 'turnout_stage_seconds_total',
    help: 'Seconds that steps spent in each stage.',
    type: 'counter',
    read: ({ stageMs }) =>
      Object.entries(stageMs).map(([stage, ms]) => one(ms / 1000, { stage: stage.replace(/Ms$/, '') })),
  },
];

const routing: readonly Family[] = [
  {
    name: 'turnout_expert_chosen_total',
    help: 'Tokens that chose each expert, before drops.',
    type: 'counter',
    read: perExpert(({ total }) => total.load),
  },
  {
    name: 'turnout_expert_tokens_total',
    help: 'Tokens that each expert kept and computed.',
    type: 'counter',
    read: perExpert(({ total }) => total.kept),
  },
  {
    name: 'turnout_expert_series_omitted',
    help: `Whether the metrics of experts are left out because there are more than ${MAX_EXPERT_SERIES}: 1 or 0.`,
    type: 'gauge',
    read: (snapshot) => [one(omitsExperts(snapshot) ? 1 : 0)],
  },
  {
    name: 'turnout_dropped_total',
    help: 'Choices that were dropped, by reason.',
    type: 'counter',
    read: perLayer(({ total }) =>
      Object.entries(total.dropped).map(([reason, count]) => one(count, { reason })),
    ),
  },
  {
    name: 'turnout_layer_imbalance_maxvio',
    help: 'Largest load of an expert over the mean, minus 1, in the last 60 s; 0 when even.',
    type: 'gauge',
    read: perLayer(({ windows }) => loaded(windows['60s'].imbalance.maxVio, windows)),
  },
  {
    name: 'turnout_layer_balancedness',
    help: 'Mean load of the experts over the largest, in the last 60 s; 1 when even.',
    type: 'gauge',
    read: perLayer(({ windows }) => loaded(windows['60s'].imbalance.balancedness, windows)),
  },
  {
    name: 'turnout_layer_loss',
    help: 'Auxiliary losses, mean of the tokens of the last 60 s.',
    type: 'gauge',
    read: perLayer(({ windows }) =>
      Object.entries(windows['60s'].losses).flatMap(([loss, mean]) =>
        mean === null ? [] : [one(mean, { loss })],
      ),
    ),
  },
];

const lanes: readonly Family[] = [
  {
    name: 'turnout_lane_state',
    help: 'State of a lane: 1 for the one that it is in, 0 for the others.',
    type: 'gauge',
    read: perLane((lane) => LANE_STATES.map((state) => one(lane.state === state ? 1 : 0, { state }))),
  },
  {
    name: 'turnout_lane_restarts_total',
    help: 'Starts of a lane after its first.',
    type: 'counter',
    read: perLane(({ restarts }) => [one(restarts)]),
  },
  {
    name: 'turnout_lane_calls_total',
    help: 'Layer calls that a lane computed.',
    type: 'counter',
    read: perLane(({ calls }) => [one(calls)]),
  },
  {
    name: 'turnout_lane_rows_total',
    help: 'Rows that a lane computed.',
    type: 'counter',
    read: perLane(({ rows }) => [one(rows)]),
  },
  {
    name: 'turnout_lane_compute_seconds_total',
    help: 'Seconds that a lane computed.',
    type: 'counter',
    read: perLane(({ computeMs }) => [one(computeMs / 1000)]),
  },
  {
    name: 'turnout_lane_queue',
    help: 'Calls that a lane has not answered yet.',
    type: 'gauge',
    read: perLane(({ queue }) => [one(queue)]),
  },
  {
    name: 'turnout_lane_memory_bytes',
    help: 'Memory of a lane that is a process; private is what it shares with no other.',
    type: 'gauge',
    read: perLane(({ process }) => [
      ...(process ? [one(process.rssBytes, { kind: 'rss' })] : []),
      ...(process?.privateBytes === undefined ? [] : [one(process.privateBytes, { kind: 'private' })]),
    ]),
  },
];

export const FAMILIES: readonly Family[] = [...engine, ...routing, ...lanes];

function one(value: number, labels: Sample['labels'] = {}): Sample {
  return { labels, value };
}

function perLayer(read: (layer: LayerSnapshot) => Sample[]): Family['read'] {
  return ({ layers }) =>
    layers.flatMap((layer) =>
      read(layer).map(({ labels, value }) => one(value, { layer: layer.layer, ...labels })),
    );
}

function perExpert(counts: (layer: LayerSnapshot) => readonly number[]): Family['read'] {
  const read = perLayer((layer) => counts(layer).map((count, expert) => one(count, { expert })));
  return (snapshot) => (omitsExperts(snapshot) ? [] : read(snapshot));
}

function perLane(read: (lane: EngineSnapshot['lanes'][number]) => Sample[]): Family['read'] {
  return (snapshot) =>
    snapshot.lanes.flatMap((lane) =>
      read(lane).map(({ labels, value }) => one(value, { lane: lane.lane, device: lane.device, ...labels })),
    );
}

function omitsExperts({ layers }: EngineSnapshot): boolean {
  return layers.reduce((sum, { experts }) => sum + experts, 0) > MAX_EXPERT_SERIES;
}

/** A measure of the load, where there was one: without it the experts would seem evenly loaded. */
function loaded(value: number, windows: LayerSnapshot['windows']): Sample[] {
  return windows['60s'].load.some((count) => count > 0) ? [one(value)] : [];
}

/** Counts of single buckets -> the cumulative ones of Prometheus. */
function histogram(name: string, { le, counts, sum }: EngineSnapshot['stepRows']): Sample[] {
  let below = 0;
  const buckets = counts.map((count, i) => {
    below += count;
    return { labels: { le: le[i] ?? '+Inf' }, value: below, metricName: `${name}_bucket` };
  });
  return [
    ...buckets,
    { ...one(sum), metricName: `${name}_sum` },
    { ...one(below), metricName: `${name}_count` },
  ];
}
