import parse from 'parse-prometheus-text-format';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { MoeModel } from '#turnout/model/moe-model.js';
import { reportRouting } from '#turnout/router/report.js';
import { DROP_REASONS } from '#turnout/router/routing.js';
import { routingTable } from '#turnout/server/routing-table.js';
import { type Server, serve } from '#turnout/server/serve.js';
import { BABEL } from '../support/babel.js';

// biome-ignore lint/suspicious/noExplicitAny: JSON of many endpoints
type Any = any;

let server: Server;
let model: MoeModel;
beforeAll(async () => {
  [server, model] = await Promise.all([
    serve(BABEL, { backend: 'threads', lanes: 2, server: { port: 0 } }),
    MoeModel.open(BABEL, { backend: 'inline' }),
  ]);
});
afterAll(() => Promise.all([server.close(), model.close()]));

const get = async (path: string): Promise<Any> => (await fetch(server.url + path)).json();
const post = async (path: string, body: object): Promise<Any> => {
  const headers = { 'content-type': 'application/json' };
  const response = await fetch(server.url + path, { method: 'POST', headers, body: JSON.stringify(body) });
  return { status: response.status, ...((await response.json()) as object) };
};
const sum = (values: readonly number[]) => values.reduce((all, value) => all + value, 0);

describe('GET /v1/routing', () => {
  it('counts what every layer did, since the begin and over windows', async () => {
    const before = await get('/v1/routing');
    expect(before.layers.map(({ name }: Any) => name)).toEqual(model.manifest.layers.map(({ name }) => name));
    await post('/v1/completions', { prompt: 'In the beginning', max_tokens: 20, temperature: 0 });
    const after = await get('/v1/routing');
    const { routing } = await model.generate('In the beginning', { maxTokens: 20, temperature: 0 }).result();
    for (const [l, layer] of after.layers.entries()) {
      const { load, kept, dropped } = reportRouting(routing[l]!);
      const grown = (key: 'load' | 'kept') =>
        layer.total[key].map((count: number, e: number) => count - before.layers[l].total[key][e]);
      expect(grown('load')).toEqual(load);
      expect(grown('kept')).toEqual(kept);
      expect(layer.total.dropped.capacity - before.layers[l].total.dropped.capacity).toBe(dropped.capacity);
      for (const window of ['1s', '10s', '60s', '300s']) {
        expect(sum(layer.windows[window].load)).toBeGreaterThanOrEqual(sum(load));
        expect(layer.windows[window].imbalance.maxVio).toBeGreaterThan(0);
        expect(layer.windows[window].losses.switch).toBeGreaterThan(0.5);
      }
    }
  });

  it('is told each second, with the status, to all who listen', async () => {
    const stop = new AbortController();
    const listen = async () => {
      const response = await fetch(`${server.url}/v1/routing/events`, { signal: stop.signal });
      expect(response.headers.get('content-type')).toContain('text/event-stream');
      let text = '';
      for await (const part of response.body!.pipeThrough(new TextDecoderStream())) {
        text += part;
        if (text.split('event: status').length > 2 && text.endsWith('\n\n')) break;
      }
      return text
        .trim()
        .split('\n\n')
        .map((frame) => {
          const [, event, data] = /^event: (\w+)\ndata: (.*)$/.exec(frame)!;
          return { event, data: JSON.parse(data!) };
        });
    };
    const [first, second] = await Promise.all([listen(), listen()]);
    stop.abort();
    for (const events of [first!, second!]) {
      expect(events.slice(0, 4).map(({ event }) => event)).toEqual([
        'routing',
        'status',
        'routing',
        'status',
      ]);
      expect(events[0]!.data.layers).toHaveLength(4);
      expect(events[1]!.data).toMatchObject({ model: 'babel', state: 'ready' });
      expect(events[2]!.data.at - events[0]!.data.at).toBeGreaterThan(500);
    }
  });
});

describe('GET /v1/status', () => {
  it('tells lanes, engine and queue', async () => {
    await post('/v1/completions', { prompt: 'x', max_tokens: 4 });
    const { lanes, engine, admission, memory } = await get('/v1/status');
    expect(lanes).toHaveLength(2);
    expect(lanes[0]).toMatchObject({ device: 'cpu', state: 'ready', restarts: 0, queue: 0 });
    expect(sum(lanes.map(({ computeMs }: Any) => computeMs))).toBeGreaterThan(0);
    expect(engine).toMatchObject({ running: 0, cache: { block: 64, used: 0, limit: 4096 } });
    expect(admission).toEqual({ running: 0, waiting: 0, runningLimit: 64, queueLimit: 128 });
    expect(memory.rssBytes).toBeGreaterThan(50e6);
  });
});

describe('POST /v1/routing/trace', () => {
  const TEXT = 'Im Anfang schuf Gott é';

  it('gives the routing of its own text, token by token', async () => {
    const company = Array.from({ length: 4 }, () =>
      post('/v1/completions', { prompt: 'company', max_tokens: 30 }),
    );
    const trace = await post('/v1/routing/trace', { text: TEXT });
    await Promise.all(company);
    const { routing, prompt, promptLogprobs } = await model
      .generate(TEXT, { maxTokens: 0, scorePrompt: true })
      .result();
    const { shape, experts, weights, drops } = routingTable(routing);
    expect(trace.tokens.map(({ id }: Any) => id)).toEqual(prompt);
    expect(trace.tokens.map(({ text }: Any) => text).join('')).toBe('Im Anfang schuf Gott \\xc3\\xa9');
    expect([trace.experts.length, trace.experts[0].length, trace.experts[0][0].length]).toEqual(shape);
    expect(trace.experts.flat(2)).toEqual([...experts]);
    expect(trace.weights.flat(2)).toEqual([...weights]);
    expect(trace.drops.flat(2)).toEqual(
      [...drops].map((reason) => (reason === 0 ? null : DROP_REASONS[reason])),
    );
    const nats = promptLogprobs!.slice(1).map(({ logprob }) => -logprob!);
    expect(trace.bits_per_byte).toBeCloseTo(sum(nats) / Math.LN2 / nats.length, 4);
    expect(trace.router).toMatchObject({ preset: 'mixtral', k: 2, capacity_factor: 2, causal: true });
    trace.layers.forEach((layer: Any, l: number) => {
      expect(layer).toMatchObject({ layer: l, experts: 8, load: reportRouting(routing[l]!).load });
    });
    const [step] = trace.waterfall.steps;
    expect(step).toMatchObject({ rows: prompt.length });
    expect(step.layers[3].stages.computeMs).toBeGreaterThan(0);
    expect(step.toMs).toBeLessThanOrEqual(trace.waterfall.totalMs + 1);
  });

  it('routes by another rule where one is named, and counts that nowhere', async () => {
    const before = (await get('/v1/routing')).layers[0].total.tokens;
    const router = { preset: 'switch', k: 1, capacity_factor: 1 };
    const trace = await post('/v1/routing/trace', { text: TEXT, router });
    expect(trace.router).toMatchObject({ preset: 'switch', k: 1, capacity_factor: 1 });
    expect(trace.experts[0][0]).toHaveLength(1);
    const choice = { preset: 'switch', k: 1, capacityFactor: 1 };
    const expected = await model.generate(TEXT, { maxTokens: 0, router: choice }).result();
    expect(trace.experts.flat(2)).toEqual([...routingTable(expected.routing).experts]);
    const whole = await post('/v1/routing/trace', { text: TEXT, router: { preset: 'expert-choice' } });
    expect(whole).toMatchObject({ status: 200, router: { causal: false, algorithm: 'expert-choice' } });
    expect((await get('/v1/routing')).layers[0].total.tokens).toBe(before);
  });

  it('takes every preset that it names', async () => {
    const { presets } = await get('/v1/routing');
    expect(presets.length).toBeGreaterThan(5);
    for (const preset of presets) {
      const { status, error } = await post('/v1/routing/trace', { text: TEXT, router: { preset } });
      expect({ preset, status, error }).toEqual({ preset, status: 200 });
    }
  });

  it('continues a text', async () => {
    const trace = await post('/v1/routing/trace', { text: TEXT, max_tokens: 6 });
    const { tokens } = await model.generate(TEXT, { maxTokens: 6, temperature: 0 }).result();
    expect(trace.tokens.slice(trace.prompt_tokens).map(({ id }: Any) => id)).toEqual(tokens);
    // The last one has passed no layer.
    expect(trace.experts).toHaveLength(trace.tokens.length - 1);
    expect(trace.waterfall.steps).toHaveLength(6);
  });

  it.each([
    [{}, 'TURNOUT_REQUEST_INVALID'],
    [{ text: 'x', tokens: [1] }, 'TURNOUT_REQUEST_INVALID'],
    [{ tokens: [300] }, 'TURNOUT_INPUT_INVALID'],
    [{ text: 'x', router: { preset: 'none such' } }, 'TURNOUT_PRESET_UNKNOWN'],
    [{ text: 'x', router: { k: 9 } }, 'TURNOUT_CHOICES_INVALID'],
    [{ text: 'x', router: { capacity_factor: -1 } }, 'TURNOUT_CAPACITY_INVALID'],
    [{ text: 'x', max_tokens: 4, router: { preset: 'expert-choice' } }, 'TURNOUT_ROUTER_NOT_CAUSAL'],
    [{ text: 'x'.repeat(2100) }, 'TURNOUT_CONTEXT_EXCEEDED'],
  ])('refuses %j', async (body, code) => {
    expect(await post('/v1/routing/trace', body)).toMatchObject({ status: 400, error: { code } });
  });
});

describe('GET /metrics', () => {
  it('is Prometheus text of what was done', async () => {
    const scrape = async () => {
      const response = await fetch(`${server.url}/metrics`);
      expect(response.headers.get('content-type')).toContain('text/plain; version=0.0.4');
      const families = new Map(parse(await response.text()).map((family) => [family.name, family.metrics]));
      return (name: string, labels: object = {}) => {
        const fits = (own: Any = {}) => Object.entries(labels).every(([key, value]) => own[key] === value);
        const found = (families.get(name) as Any[]).filter((metric) => fits(metric.labels));
        return sum(found.map(({ value, count }) => Number(value ?? count)));
      };
    };
    const before = await scrape();
    const { usage } = await post('/v1/completions', { prompt: 'In the', max_tokens: 9, ignore_eos: true });
    const now = await scrape();
    const grown = (name: string, labels?: object) => now(name, labels) - before(name, labels);
    expect(grown('turnout_generation_tokens_total')).toBe(9);
    expect(grown('turnout_prompt_tokens_total')).toBe(usage.prompt_tokens);
    expect(grown('turnout_request_success_total', { finished_reason: 'length' })).toBe(1);
    expect(grown('turnout_steps_total')).toBe(9);
    const tokens = grown('turnout_expert_tokens_total', { layer: '0' });
    const dropped = grown('turnout_dropped_total', { layer: '0' });
    expect(tokens + dropped).toBe(2 * (usage.prompt_tokens + 8));
    expect(grown('turnout_http_requests_total', { endpoint: '/v1/completions', status: '200' })).toBe(1);
    expect(now('turnout_lane_state', { state: 'ready' })).toBe(2);
    expect(grown('turnout_stage_seconds_total', { stage: 'compute' })).toBeGreaterThan(0);
  });

  it('has no series that a client can make up', async () => {
    await fetch(`${server.url}/made/up/by/a/client`);
    await post('/v1/completions', { prompt: 'x', model: 'made-up' });
    expect(await (await fetch(`${server.url}/metrics`)).text()).not.toContain('made');
  });
});
