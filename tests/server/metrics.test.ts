import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import parsePrometheus from 'parse-prometheus-text-format';
import { describe, expect, it } from 'vitest';
import type { EngineSnapshot } from '#turnout/model/engine-snapshot.js';
import { LoadHistory } from '#turnout/router/load-history.js';
import { MAX_EXPERT_SERIES } from '#turnout/server/engine-families.js';
import { ServerMetrics } from '#turnout/server/metrics.js';
import { plain, route } from '../support/routing.js';

async function scrape(metrics: ServerMetrics) {
  const text = await metrics.text();
  const families = parsePrometheus(text);
  const series = (name: string) => families.find((family) => family.name === name)?.metrics ?? [];
  /** Values of a family by their labels: `0,capacity` -> 3. */
  const values = (name: string) =>
    Object.fromEntries(
      series(name).map(({ labels = {}, value }) => [Object.values(labels).join(), Number(value)]),
    );
  return { text, families, series, values };
}

const WINDOWS = ['1s', '10s', '60s', '300s'] as const;

/** A history's layers as an engine gives them. */
function layersOf(history: LoadHistory): EngineSnapshot['layers'] {
  return [...history.snapshot([1000, 10_000, 60_000, 300_000])].map(([layer, { total, windows }]) => ({
    layer,
    name: `layers.${layer}`,
    experts: total.load.length,
    choices: 2,
    total,
    windows: Object.fromEntries(
      WINDOWS.map((name, w) => [name, windows[w]!]),
    ) as EngineSnapshot['layers'][number]['windows'],
  }));
}

function snapshotOf(layers: EngineSnapshot['layers'], changes: Partial<EngineSnapshot> = {}): EngineSnapshot {
  return {
    at: 1.79e12,
    running: 3,
    waiting: 2,
    cache: { block: 64, used: 12, limit: 48 },
    steps: 7,
    rows: 30,
    stepRows: { le: [1, 2, 4], counts: [1, 0, 4, 2], sum: 30 },
    stageMs: {
      gateMs: 1500,
      routeMs: 250,
      dispatchMs: 1,
      transportMs: 0,
      computeMs: 9000,
      combineMs: 2,
      trunkMs: 12_000,
    },
    layers,
    lanes: [
      {
        lane: 0,
        device: 'cpu',
        provider: 'cpu',
        state: 'busy',
        experts: [0, 1],
        queue: 1,
        calls: 10,
        batches: 15,
        rows: 80,
        computeMs: 1250,
        restarts: 2,
        process: { rssBytes: 5e7, privateBytes: 2e7, circuit: 'closed' },
      },
      {
        lane: 1,
        device: 'cuda:0',
        provider: 'cuda',
        state: 'dead',
        experts: [2],
        queue: 0,
        calls: 0,
        batches: 0,
        rows: 0,
        computeMs: 0,
        restarts: 0,
      },
    ],
    ...changes,
  };
}

const tight = plain({ select: { k: 2 }, admit: { formula: 'fixed', capacity: 2, scope: 'call' } });
const crowded = route(tight, [
  [3, 2, 1],
  [3, 2, 1],
  [3, 1, 2],
]);
const single = route(tight, [[1, 2, 3]]);

/** Layer 0 was busy long ago and just now, layer 2 only long ago. */
function historyOfTwo(): LoadHistory {
  const clock = { now: 0 };
  const history = new LoadHistory({ now: () => clock.now });
  for (const layer of [0, 2]) history.record({ layer, routing: crowded });
  clock.now = 200_000;
  history.record({ layer: 0, routing: single });
  return history;
}

const metricsOf = (snapshot: EngineSnapshot) =>
  new ServerMetrics({ snapshot: async () => snapshot, queued: () => 4 });

describe('the metrics of the engine', () => {
  it('tell the routing of each layer as the history has it', async () => {
    const layers = layersOf(historyOfTwo());
    const { values } = await scrape(metricsOf(snapshotOf(layers)));
    expect(values('turnout_expert_chosen_total')).toEqual({
      '0,0': 3,
      '0,1': 3,
      '0,2': 2,
      '2,0': 3,
      '2,1': 2,
      '2,2': 1,
    });
    expect(values('turnout_expert_tokens_total')).toEqual({
      '0,0': 2,
      '0,1': 3,
      '0,2': 2,
      '2,0': 2,
      '2,1': 2,
      '2,2': 1,
    });
    expect(values('turnout_dropped_total')).toMatchObject({
      '0,capacity': 1,
      '2,capacity': 1,
      '2,bad-row': 0,
    });
    const minute = layers[0]!.windows['60s'];
    expect(values('turnout_layer_imbalance_maxvio')).toEqual({ 0: minute.imbalance.maxVio });
    expect(values('turnout_layer_balancedness')).toEqual({ 0: minute.imbalance.balancedness });
    const losses = values('turnout_layer_loss');
    expect(losses['0,z']).toBe(minute.losses.z);
    expect(losses['0,switch']).toBe(minute.losses.switch);
    expect(Object.keys(losses)).not.toContain('0,smoothLoad');
    expect(Object.keys(losses).filter((key) => key.startsWith('2'))).toEqual([]);
  });

  it('tell steps, rows, stages and the queue', async () => {
    const { values, series } = await scrape(metricsOf(snapshotOf([])));
    expect(values('turnout_engine_up')).toEqual({ '': 1 });
    expect(values('turnout_num_requests_running')).toEqual({ '': 3 });
    expect(values('turnout_num_requests_waiting')).toEqual({ '': 6 });
    expect(values('turnout_cache_usage_ratio')).toEqual({ '': 0.25 });
    expect(values('turnout_steps_total')).toEqual({ '': 7 });
    expect(values('turnout_stage_seconds_total')).toEqual({
      gate: 1.5,
      route: 0.25,
      dispatch: 0.001,
      transport: 0,
      compute: 9,
      combine: 0.002,
      trunk: 12,
    });
    expect(series('turnout_step_rows')).toEqual([
      { buckets: { 1: '1', 2: '1', 4: '5', '+Inf': '7' }, count: '7', sum: '30' },
    ]);
  });

  it('tell each lane, and its memory where it is a process', async () => {
    const { values } = await scrape(metricsOf(snapshotOf([])));
    expect(values('turnout_lane_state')).toEqual({
      '0,cpu,starting': 0,
      '0,cpu,ready': 0,
      '0,cpu,busy': 1,
      '0,cpu,draining': 0,
      '0,cpu,dead': 0,
      '1,cuda:0,starting': 0,
      '1,cuda:0,ready': 0,
      '1,cuda:0,busy': 0,
      '1,cuda:0,draining': 0,
      '1,cuda:0,dead': 1,
    });
    expect(values('turnout_lane_restarts_total')).toEqual({ '0,cpu': 2, '1,cuda:0': 0 });
    expect(values('turnout_lane_calls_total')).toEqual({ '0,cpu': 10, '1,cuda:0': 0 });
    expect(values('turnout_lane_rows_total')).toEqual({ '0,cpu': 80, '1,cuda:0': 0 });
    expect(values('turnout_lane_compute_seconds_total')).toEqual({ '0,cpu': 1.25, '1,cuda:0': 0 });
    expect(values('turnout_lane_queue')).toEqual({ '0,cpu': 1, '1,cuda:0': 0 });
    expect(values('turnout_lane_memory_bytes')).toEqual({ '0,cpu,rss': 5e7, '0,cpu,private': 2e7 });
  });

  it.each([
    { experts: MAX_EXPERT_SERIES / 2, omitted: 0, series: MAX_EXPERT_SERIES },
    { experts: MAX_EXPERT_SERIES / 2 + 1, omitted: 1, series: 0 },
  ])('leave experts out where they are too many: two layers of $experts', async (given) => {
    const [layer] = layersOf(historyOfTwo());
    const counts = new Array<number>(given.experts).fill(1);
    const wide = {
      ...layer!,
      experts: given.experts,
      total: { ...layer!.total, load: counts, kept: counts },
    };
    const { values, series } = await scrape(metricsOf(snapshotOf([wide, { ...wide, layer: 1 }])));
    expect(values('turnout_expert_series_omitted')).toEqual({ '': given.omitted });
    expect(series('turnout_expert_chosen_total')).toHaveLength(given.series);
    expect(series('turnout_expert_tokens_total')).toHaveLength(given.series);
    expect(series('turnout_dropped_total')).toHaveLength(8);
  });

  it('let other work have its turn while the text is made', async () => {
    const metrics = metricsOf(snapshotOf([]));
    let turns = 0;
    let next = setImmediate(function turn() {
      turns++;
      next = setImmediate(turn);
    });
    await metrics.text();
    clearImmediate(next);
    expect(turns).toBeGreaterThan(10);
  });

  it('never go back from scrape to scrape', async () => {
    const history = historyOfTwo();
    const metrics = new ServerMetrics({
      snapshot: async () => snapshotOf(layersOf(history)),
      queued: () => 0,
    });
    const before = (await scrape(metrics)).values('turnout_expert_chosen_total');
    history.record({ layer: 0, routing: single });
    const after = (await scrape(metrics)).values('turnout_expert_chosen_total');
    expect(after).toEqual({ ...before, '0,1': before['0,1']! + 1, '0,2': before['0,2']! + 1 });
  });

  it('are missing where the engine does not answer, and the others stay', async () => {
    let fails = false;
    const snapshot = async () => {
      if (fails) throw new Error('the engine is gone');
      return snapshotOf([]);
    };
    const metrics = new ServerMetrics({ snapshot, queued: () => 9 });
    metrics.request({ endpoint: '/v1/models', method: 'GET', status: 200, seconds: 0.01 });
    expect((await scrape(metrics)).values('turnout_steps_total')).toEqual({ '': 7 });
    fails = true;
    const { values, series } = await scrape(metrics);
    expect(values('turnout_engine_up')).toEqual({ '': 0 });
    expect(series('turnout_steps_total')).toEqual([]);
    expect(values('turnout_num_requests_waiting')).toEqual({ '': 9 });
    expect(values('turnout_http_requests_total')).toEqual({ '/v1/models,GET,200': 1 });
  });
});

describe('the metrics of requests', () => {
  const generation = {
    model: 'babel',
    reason: 'length',
    promptTokens: 20,
    generatedTokens: 5,
    queueSeconds: 0.02,
    firstTokenSeconds: 0.2,
    totalSeconds: 1,
  } as const;

  it('count generations by their end, and time them', async () => {
    const metrics = metricsOf(snapshotOf([]));
    metrics.ended(generation);
    metrics.ended({ ...generation, reason: 'stop', generatedTokens: 1, totalSeconds: 0.2 });
    const gone = { promptTokens: 7, generatedTokens: 0, firstTokenSeconds: undefined, totalSeconds: 0.4 };
    metrics.ended({ ...generation, ...gone, reason: 'abort' });
    const { values, series, text } = await scrape(metrics);
    expect(values('turnout_request_success_total')).toEqual({
      'babel,length': 1,
      'babel,stop': 1,
      'babel,abort': 1,
    });
    expect(values('turnout_prompt_tokens_total')).toEqual({ babel: 47 });
    expect(values('turnout_generation_tokens_total')).toEqual({ babel: 6 });
    expect(series('turnout_time_to_first_token_seconds')[0]!.buckets).toMatchObject({ 0.1: '0', 0.25: '2' });
    expect(series('turnout_request_queue_time_seconds')[0]!.buckets).toMatchObject({ 0.01: '0', 0.025: '3' });
    // One request has more than one token: (1 - 0.2) / 4.
    expect(series('turnout_time_per_output_token_seconds')[0]!.buckets).toMatchObject({
      0.15: '0',
      0.2: '1',
      '+Inf': '1',
    });
    // The parser keeps no sums of histograms with labels.
    expect(text).toContain('turnout_time_per_output_token_seconds_sum{model_name="babel"} 0.2\n');
    expect(text).toContain('turnout_e2e_request_latency_seconds_count{model_name="babel"} 3\n');
    expect(text).toMatch(/\nturnout_e2e_request_latency_seconds_sum\{model_name="babel"\} 1\.6\d*\n/);
  });

  it('count HTTP requests by endpoint, and never by what a client makes up', async () => {
    const metrics = metricsOf(snapshotOf([]));
    const answered = { endpoint: '/v1/models/:id', method: 'GET', status: 200, seconds: 0.02 };
    metrics.request(answered);
    metrics.request(answered);
    metrics.request({ method: 'PROPFIND', status: 404, seconds: 0 });
    const { values, series, text } = await scrape(metrics);
    expect(values('turnout_http_requests_total')).toEqual({
      '/v1/models/:id,GET,200': 2,
      'none,OTHER,404': 1,
    });
    expect(series('turnout_http_request_duration_seconds')).toHaveLength(1);
    expect(text).toContain(
      'turnout_http_request_duration_seconds_count{endpoint="/v1/models/:id",method="GET"} 2\n',
    );
  });

  it('count what was refused by error code', async () => {
    const metrics = metricsOf(snapshotOf([]));
    metrics.refused('TURNOUT_CACHE_EXCEEDED');
    metrics.refused('TURNOUT_CACHE_EXCEEDED');
    expect((await scrape(metrics)).values('turnout_requests_refused_total')).toEqual({
      TURNOUT_CACHE_EXCEEDED: 2,
    });
  });
});

describe('the text', () => {
  it('is that of Prometheus, with the metrics of the process', async () => {
    const metrics = metricsOf(snapshotOf([]));
    expect(metrics.contentType).toMatch(/^text\/plain; version=0\.0\.4/);
    const { families, values } = await scrape(metrics);
    expect(values('process_resident_memory_bytes')['']).toBeGreaterThan(1e6);
    expect(families.map(({ name }) => name)).toContain('nodejs_eventloop_lag_p99_seconds');
  });

  it('has each name and each series once, and a help for each', async () => {
    const metrics = metricsOf(snapshotOf(layersOf(historyOfTwo())));
    metrics.request({ endpoint: '/', method: 'GET', status: 200, seconds: 0 });
    const { families, text } = await scrape(metrics);
    const names = families.map(({ name }) => name);
    expect(new Set(names).size).toBe(names.length);
    expect(families.filter(({ help }) => help === '')).toEqual([]);
    const samples = text.split('\n').flatMap((line) => /^(\w\S*) \S+$/.exec(line)?.[1] ?? []);
    expect(samples.length).toBeGreaterThan(100);
    expect(samples.filter((one, i) => samples.indexOf(one) !== i)).toEqual([]);
    const counters = families.filter(({ name, type }) => name.startsWith('turnout_') && type === 'COUNTER');
    expect(counters.filter(({ name }) => !name.endsWith('_total'))).toEqual([]);
  });

  it('has the names and types that docs/metrics.md lists', async () => {
    const metrics = metricsOf(snapshotOf(layersOf(historyOfTwo())));
    metrics.request({ endpoint: '/', method: 'GET', status: 200, seconds: 0 });
    const { families } = await scrape(metrics);
    const doc = readFileSync(join(import.meta.dirname, '../../docs/metrics.md'), 'utf8');
    const rows = [...doc.matchAll(/^\| `(turnout_\w+)` \| (\w+) \|/gm)].map(
      ([, name, type]) => `${name} ${type}`,
    );
    const own = families.filter(({ name }) => name.startsWith('turnout_'));
    expect(rows.toSorted()).toEqual(own.map(({ name, type }) => `${name} ${type.toLowerCase()}`).toSorted());
  });

  it('keeps the servers of one process apart', async () => {
    const [a, b] = [metricsOf(snapshotOf([])), metricsOf(snapshotOf([], { steps: 9 }))];
    a.refused('TURNOUT_CLOSED');
    const [first, second] = [await scrape(a), await scrape(b)];
    expect(first.values('turnout_steps_total')).toEqual({ '': 7 });
    expect(second.values('turnout_steps_total')).toEqual({ '': 9 });
    expect(second.values('turnout_requests_refused_total')).toEqual({});
  });
});
