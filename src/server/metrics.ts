import { setImmediate } from 'node:timers/promises';
import { Counter, collectDefaultMetrics, Histogram, Registry } from 'prom-client';
import type { ErrorCode } from '../errors.js';
import { EngineMetrics, type EngineSource } from './engine-metrics.js';

/** vLLM's words for the end of a generation. */
export type FinishedReason = 'stop' | 'length' | 'abort' | 'error';

/** One HTTP request that was answered, or whose client went away. */
export interface AnsweredRequest {
  /** The template that took it, such as `/v1/models/:id`, never its path; left out where none did. */
  readonly endpoint?: string | undefined;
  readonly method: string;
  readonly status: number;
  readonly seconds: number;
}

/** One generation from its arrival to its end. */
export interface EndedGeneration {
  /** The name that the server knows, never what the client wrote. */
  readonly model: string;
  readonly reason: FinishedReason;
  readonly promptTokens: number;
  readonly generatedTokens: number;
  readonly queueSeconds: number;
  /** From the arrival; left out where there was no token. */
  readonly firstTokenSeconds?: number | undefined;
  readonly totalSeconds: number;
}

/** Other methods count as `OTHER`: a label never holds what a client makes up. */
const METHODS = new Set(['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS']);

// Seconds, as vLLM has them; the small ones were added for models that answer in milliseconds.
const FIRST_TOKEN = [
  0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20, 40, 80, 160, 640,
  2560,
];
const PER_TOKEN = [
  0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20,
  40, 80,
];
const LATENCY = [
  0.005, 0.01, 0.025, 0.05, 0.1, 0.3, 0.5, 0.8, 1, 1.5, 2, 2.5, 5, 10, 15, 20, 30, 40, 50, 60, 120, 240, 480,
  960, 1920, 7680,
];

/**
 * What Prometheus asks for at `/metrics`: the server counts requests and generations here, and the engine is asked at each
 * scrape. It has a registry of its own, so that two servers in one process do not mix. docs/metrics.md lists the names.
 */
export class ServerMetrics {
  readonly contentType: string;
  readonly #registry = new Registry();
  readonly #engine: EngineMetrics;
  readonly #http = httpMetrics(this.#registry);
  readonly #generation = generationMetrics(this.#registry);
  readonly #refused: Counter<'reason'>;

  constructor(source: EngineSource) {
    this.contentType = this.#registry.contentType;
    collectDefaultMetrics({ register: this.#registry });
    this.#refused = new Counter({
      name: 'turnout_requests_refused_total',
      help: 'Requests that were not admitted, by error code.',
      labelNames: ['reason'],
      registers: [this.#registry],
    });
    this.#engine = new EngineMetrics(this.#registry, source);
  }

  request({ endpoint = 'none', method, status, seconds }: AnsweredRequest): void {
    const labels = { endpoint, method: METHODS.has(method) ? method : 'OTHER' };
    this.#http.requests.inc({ ...labels, status });
    this.#http.seconds.observe(labels, seconds);
  }

  /** Counts a request that was not admitted. */
  refused(reason: ErrorCode): void {
    this.#refused.inc({ reason });
  }

  ended(generation: EndedGeneration): void {
    const { model, reason, promptTokens, generatedTokens, firstTokenSeconds, totalSeconds } = generation;
    const metrics = this.#generation;
    const labels = { model_name: model };
    metrics.success.inc({ ...labels, finished_reason: reason });
    metrics.promptTokens.inc(labels, promptTokens);
    metrics.generatedTokens.inc(labels, generatedTokens);
    metrics.queue.observe(labels, generation.queueSeconds);
    metrics.total.observe(labels, totalSeconds);
    if (firstTokenSeconds === undefined) return;
    metrics.firstToken.observe(labels, firstTokenSeconds);
    if (generatedTokens < 2) return;
    metrics.perToken.observe(labels, (totalSeconds - firstTokenSeconds) / (generatedTokens - 1));
  }

  /**
   * The text of one scrape. It has the server's own numbers also where the engine does not answer. Other requests have
   * their turn between two metrics: with thousands of experts the whole takes 20 ms and more.
   */
  async text(): Promise<string> {
    await this.#engine.refresh();
    const parts: string[] = [];
    for (const { name } of this.#registry.getMetricsAsArray()) {
      parts.push(await this.#registry.getSingleMetricAsString(name));
      await setImmediate();
    }
    return `${parts.join('\n\n')}\n`;
  }
}

function httpMetrics(registry: Registry) {
  const registers = [registry];
  return {
    requests: new Counter({
      name: 'turnout_http_requests_total',
      help: 'HTTP requests that were answered.',
      labelNames: ['endpoint', 'method', 'status'],
      registers,
    }),
    seconds: new Histogram({
      name: 'turnout_http_request_duration_seconds',
      help: 'Seconds from a request to the end of its answer.',
      labelNames: ['endpoint', 'method'],
      buckets: LATENCY,
      registers,
    }),
  };
}

function generationMetrics(registry: Registry) {
  const common = { labelNames: ['model_name' as const], registers: [registry] };
  const seconds = (name: string, help: string, buckets: number[]) =>
    new Histogram({ name, help, buckets, ...common });
  return {
    success: new Counter({
      name: 'turnout_request_success_total',
      help: 'Generations that ended, by what ended them.',
      labelNames: ['model_name', 'finished_reason'],
      registers: [registry],
    }),
    promptTokens: new Counter({ name: 'turnout_prompt_tokens_total', help: 'Tokens of prompts.', ...common }),
    generatedTokens: new Counter({
      name: 'turnout_generation_tokens_total',
      help: 'Tokens generated.',
      ...common,
    }),
    firstToken: seconds(
      'turnout_time_to_first_token_seconds',
      'Seconds from the arrival of a request to its first token.',
      FIRST_TOKEN,
    ),
    perToken: seconds(
      'turnout_time_per_output_token_seconds',
      'Seconds for each token of a request after the first, its mean.',
      PER_TOKEN,
    ),
    queue: seconds('turnout_request_queue_time_seconds', 'Seconds that a request waited.', LATENCY),
    total: seconds(
      'turnout_e2e_request_latency_seconds',
      'Seconds from the arrival of a request to its last token.',
      LATENCY,
    ),
  };
}
