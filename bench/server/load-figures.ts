import { percentile, samplesOf } from '../support/measure.js';
import { type Spread, spreadOf } from '../support/spread.js';
import type { Reading } from './closed-loop.js';
import type { DelayFigure } from './server-process.js';

/** Who answers. */
export const NAMES = {
  engine: 'engine',
  whole: 'server',
  streaming: 'server, streaming',
  alone: 'server, one at a time',
} as const;
/** Clients at which answers one at a time are compared with those of continuous batching, and the targets are set. */
export const BATCHED = 32;

export interface LoadFigure {
  readonly name: string;
  readonly clients: number;
  readonly tokensPerSecond: Spread;
  /** Of the engine's tokens per second, reading by reading. */
  readonly ofEngine: Spread;
  readonly latencyMs: { readonly p50: number; readonly p99: number };
  readonly stepMs: Spread;
  readonly rowsPerStep: Spread;
  readonly cores: Readonly<Record<string, Spread>>;
  /** Of the server's main thread: the median of the readings' own figures, and the most of all. */
  readonly eventLoopDelay?: DelayFigure;
  readonly firstToken?: FirstTokenFigure;
}

/** Times that streaming clients see. */
export interface FirstTokenFigure {
  readonly p50Ms: number;
  readonly p99Ms: number;
  /** What is left without the prompt's own prefill, in steps at that load. */
  readonly p50Steps: number;
  readonly p99Steps: number;
  /** From the first token to the last. */
  readonly msPerToken: { readonly p50: number; readonly p99: number };
}

/** One reading of one contender. */
export interface Measured {
  readonly reading: Reading;
  readonly delay?: DelayFigure;
}

interface Given {
  readonly name: string;
  readonly clients: number;
  readonly tokens: number;
  readonly prefillMs: readonly number[];
}

/** The readings of one contender, beside those of the engine in the same turns. */
export function figureOf(
  { name, clients, ...given }: Given,
  all: ReadonlyMap<string, Measured[]>,
): LoadFigure {
  const mine = all.get(name)!;
  const readings = mine.map(({ reading }) => reading);
  const engine = all.get(NAMES.engine)!.map(({ reading }) => reading.tokensPerSecond);
  const delays = mine.flatMap(({ delay }) => delay ?? []);
  const ms = samplesOf(readings.flatMap(({ answers }) => answers.map((answer) => answer.ms)));
  const cores = Object.keys(readings[0]!.cores).map((key) => [
    key,
    spreadOf(readings.map(({ cores }) => cores[key]!)),
  ]);
  const firstToken = firstTokenOf(readings, given);
  return {
    name,
    clients,
    tokensPerSecond: spreadOf(readings.map(({ tokensPerSecond }) => tokensPerSecond)),
    ofEngine: spreadOf(readings.map(({ tokensPerSecond }, i) => tokensPerSecond / engine[i]!)),
    latencyMs: { p50: percentile(ms, 0.5), p99: percentile(ms, 0.99) },
    stepMs: spreadOf(readings.map(({ stepMs }) => stepMs)),
    rowsPerStep: spreadOf(readings.map(({ rowsPerStep }) => rowsPerStep)),
    cores: Object.fromEntries(cores),
    ...(delays.length > 0 && { eventLoopDelay: delayOf(delays) }),
    ...(firstToken && { firstToken }),
  };
}

/** Nothing where the answers were not streamed. */
function firstTokenOf(
  readings: readonly Reading[],
  { tokens, prefillMs }: Pick<Given, 'tokens' | 'prefillMs'>,
): FirstTokenFigure | undefined {
  const first: number[] = [];
  const steps: number[] = [];
  const perToken: number[] = [];
  for (const { answers, stepMs } of readings) {
    for (const { prompt, ms, firstMs } of answers) {
      if (firstMs === undefined) return undefined;
      first.push(firstMs);
      steps.push((firstMs - prefillMs[prompt]!) / stepMs);
      perToken.push((ms - firstMs) / (tokens - 1));
    }
  }
  const [p50Ms, p99Ms] = p50p99(first);
  const [p50Steps, p99Steps] = p50p99(steps);
  const [p50, p99] = p50p99(perToken);
  return { p50Ms, p99Ms, p50Steps, p99Steps, msPerToken: { p50, p99 } };
}

function p50p99(values: readonly number[]): [p50: number, p99: number] {
  const sorted = samplesOf(values);
  return [percentile(sorted, 0.5), percentile(sorted, 0.99)];
}

function delayOf(delays: readonly DelayFigure[]): DelayFigure {
  const median = (key: keyof DelayFigure) => spreadOf(delays.map((delay) => delay[key])).median;
  return {
    p50Ms: median('p50Ms'),
    p99Ms: median('p99Ms'),
    maxMs: Math.max(...delays.map(({ maxMs }) => maxMs)),
  };
}

export function tableRow(figure: LoadFigure): Record<string, string | number> {
  const { name, tokensPerSecond, ofEngine, latencyMs, stepMs, rowsPerStep, cores } = figure;
  const { firstToken, eventLoopDelay } = figure;
  const share = (value: number) => `${(100 * value).toFixed(0)} %`;
  return {
    name,
    'tokens/s': Math.round(tokensPerSecond.median),
    'of engine': `${share(ofEngine.median)} (${share(ofEngine.least)}-${share(ofEngine.most)})`,
    'p50 ms': latencyMs.p50,
    'p99 ms': latencyMs.p99,
    'step ms': stepMs.median,
    'rows/step': rowsPerStep.median,
    cores: Object.values(cores)
      .map(({ median }) => median.toFixed(2))
      .join(' '),
    'first p50': firstToken?.p50Ms ?? '',
    'first p99': firstToken?.p99Ms ?? '',
    'in steps': firstToken?.p50Steps ?? '',
    'loop p99': eventLoopDelay?.p99Ms ?? '',
    'loop max': eventLoopDelay?.maxMs ?? '',
  };
}
