import { percentile, samplesOf } from '../support/measure.js';
import { printTable } from '../support/table.js';
import type { Reading } from './closed-loop.js';
import {
  type EngineChild,
  type LoadChild,
  type ServerChild,
  startEngine,
  startLoad,
  startServer,
} from './programs.js';
import { heldOutPrompts } from './prompts.js';
import type { DelayFigure } from './server-process.js';
import type { Settings } from './settings.js';

/** Prompts that the clients ask in turn. */
const PROMPTS = 60;
/** Clients at which answers one at a time are compared with those of continuous batching. */
const BATCHED = 32;

export type Spread = { readonly median: number; readonly least: number; readonly most: number };

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

interface Measured {
  readonly reading: Reading;
  readonly delay?: DelayFigure;
}

interface Contender {
  readonly name: string;
  measure(clients: number): Promise<Measured>;
}

interface Parts {
  readonly settings: Settings;
  readonly engine: EngineChild;
  readonly load: LoadChild;
  readonly server: ServerChild;
  readonly prompts: readonly string[];
}

/** The server beside the engine called directly, with as many sequences in each, in turns. */
export async function throughput(settings: Settings): Promise<LoadFigure[]> {
  const prompts = await heldOutPrompts(settings.package, PROMPTS);
  const running = Math.max(...settings.clients);
  await using engine = await startEngine(settings);
  await using load = startLoad();
  await using server = await startServer(settings, { running });
  await using alone = await startServer({ ...settings, node: [] }, { running: 1 });
  const parts = { settings, engine, load, server, prompts };
  await checkEqual(parts);
  const prefillMs = await engine.ask('prefill', { prompts, rounds: settings.rounds });
  const figures: LoadFigure[] = [];
  for (const clients of settings.clients) {
    const contenders = contendersOf(parts);
    if (clients === BATCHED)
      contenders.push(served('server, one at a time', { ...parts, server: alone }, false));
    const measured = await inTurns(contenders, clients, settings.rounds);
    for (const { name } of contenders) {
      figures.push(figureOf({ name, clients, tokens: settings.tokens, prefillMs }, measured));
    }
    printTable(`${clients} clients`, figures.filter((figure) => figure.clients === clients).map(tableRow));
  }
  return figures;
}

/** The texts over HTTP are those of the engine. */
async function checkEqual({ engine, load, server, prompts, settings }: Parts): Promise<void> {
  const { tokens } = settings;
  const expected = await engine.ask('texts', { prompts, tokens });
  for (const stream of [false, true]) {
    const got = await load.ask('texts', { ...target(server), prompts, tokens, stream, clients: 1, ms: 0 });
    const wrong = expected.findIndex((text, i) => text !== got[i]);
    if (wrong < 0) continue;
    const what = `${stream ? 'streamed' : 'whole'} answer ${wrong}`;
    throw new Error(
      `${what}: expected ${JSON.stringify(expected[wrong])}, got ${JSON.stringify(got[wrong])}`,
    );
  }
}

function target({ url, pid }: ServerChild) {
  return { url, pid };
}

function contendersOf(parts: Parts): Contender[] {
  const { engine, prompts, settings } = parts;
  const direct: Contender = {
    name: ENGINE,
    measure: async (clients) => {
      const { tokens, seconds } = settings;
      return { reading: await engine.ask('load', { clients, prompts, tokens, ms: seconds * 1000 }) };
    },
  };
  return [direct, served('server', parts, false), served('server, streaming', parts, true)];
}

const ENGINE = 'engine';

function served(name: string, { settings, load, server, prompts }: Parts, stream: boolean): Contender {
  const { tokens, seconds } = settings;
  return {
    name,
    measure: async (clients) => {
      const spec = { clients, prompts, tokens, stream, ms: seconds * 1000 };
      await server.ask('delays');
      const reading = await load.ask('load', { ...target(server), ...spec });
      return { reading, delay: await server.ask('delays') };
    },
  };
}

async function inTurns(
  contenders: readonly Contender[],
  clients: number,
  rounds: number,
): Promise<Map<string, Measured[]>> {
  const measured = new Map<string, Measured[]>(contenders.map(({ name }) => [name, []]));
  for (let round = 0; round < rounds; round++) {
    for (const { name, measure } of contenders) measured.get(name)!.push(await measure(clients));
  }
  return measured;
}

interface Given {
  readonly name: string;
  readonly clients: number;
  readonly tokens: number;
  readonly prefillMs: readonly number[];
}

function figureOf({ name, clients, ...given }: Given, all: ReadonlyMap<string, Measured[]>): LoadFigure {
  const mine = all.get(name)!;
  const readings = mine.map(({ reading }) => reading);
  const engine = all.get(ENGINE)!.map(({ reading }) => reading.tokensPerSecond);
  const delays = mine.flatMap(({ delay }) => delay ?? []);
  const ms = samplesOf(readings.flatMap(({ answers }) => answers.map((answer) => answer.ms)));
  const cores = Object.keys(readings[0]!.cores).map((key) => [
    key,
    spread(readings.map(({ cores }) => cores[key]!)),
  ]);
  const firstToken = firstTokenOf(readings, given);
  return {
    name,
    clients,
    tokensPerSecond: spread(readings.map(({ tokensPerSecond }) => tokensPerSecond)),
    ofEngine: spread(readings.map(({ tokensPerSecond }, i) => tokensPerSecond / engine[i]!)),
    latencyMs: { p50: percentile(ms, 0.5), p99: percentile(ms, 0.99) },
    stepMs: spread(readings.map(({ stepMs }) => stepMs)),
    rowsPerStep: spread(readings.map(({ rowsPerStep }) => rowsPerStep)),
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
  const [p50Ms, p99Ms] = halves(first);
  const [p50Steps, p99Steps] = halves(steps);
  const [p50, p99] = halves(perToken);
  return { p50Ms, p99Ms, p50Steps, p99Steps, msPerToken: { p50, p99 } };
}

function halves(values: readonly number[]): [p50: number, p99: number] {
  const sorted = samplesOf(values);
  return [percentile(sorted, 0.5), percentile(sorted, 0.99)];
}

function delayOf(delays: readonly DelayFigure[]): DelayFigure {
  const median = (key: keyof DelayFigure) => spread(delays.map((delay) => delay[key])).median;
  return {
    p50Ms: median('p50Ms'),
    p99Ms: median('p99Ms'),
    maxMs: Math.max(...delays.map(({ maxMs }) => maxMs)),
  };
}

function spread(values: readonly number[]): Spread {
  const sorted = values.toSorted((a, b) => a - b);
  return { median: sorted[sorted.length >> 1]!, least: sorted[0]!, most: sorted.at(-1)! };
}

function tableRow(figure: LoadFigure): Record<string, string | number> {
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
