import { setTimeout as sleep } from 'node:timers/promises';
import { percentile, samplesOf } from '../support/measure.js';
import { MemoryWatch, MINUTE_MS } from './memory-watch.js';
import type { OpenFigure } from './open-loop.js';
import { cpuMs } from './process-stats.js';
import { type LoadChild, type ServerChild, startLoad, startServer } from './programs.js';
import { heldOutPrompts } from './prompts.js';
import type { DelayFigure } from './server-process.js';
import type { Settings, Watch } from './settings.js';
import { StepWatch } from './step-watch.js';

const PROMPTS = 60;
/** Full load is that of as many clients as there are places, running and waiting: nobody is refused. */
const PLACES = { running: 64, queue: 128 } as const;
const FULL = PLACES.running + PLACES.queue;
/** How many times what it can do is asked of the server. */
const TIMES = 10;
/** Seconds that full load is measured. */
const FULL_SECONDS = 20;
/** The part of the time after the overload in which the server must be at full speed again, in milliseconds. */
const AFTER = { from: 1000, to: 3000 } as const;

export interface OverloadFigure {
  readonly places: typeof PLACES;
  readonly full: { readonly clients: number; readonly answersPerSecond: number; readonly p99Ms: number };
  readonly offeredPerSecond: number;
  readonly madePerSecond: number;
  readonly statuses: OpenFigure['statuses'];
  readonly refusedWithoutRetryAfter: number;
  readonly admittedMs: { readonly p50: number; readonly p99: number; readonly ofFullP99: number };
  readonly refusedMs: { readonly p50: number; readonly p99: number };
  readonly eventLoopDelay: DelayFigure;
  /** Share of one core that each had under overload. */
  readonly cores: ReturnType<typeof cpuOf>;
  /** Bytes: the median of the second minute and of the second half. */
  readonly rss: { readonly secondMinute: number; readonly secondHalf: number; readonly ratio: number };
  /** Rows a second of the engine: at full load, under overload, from one to three seconds after its end; then full load anew. */
  readonly rowsPerSecond: Readonly<Record<'full' | 'overload' | 'after', number>>;
  readonly fullAgain: { readonly answersPerSecond: number; readonly p99Ms: number };
}

/** What more load than the server can bear does to those whom it lets in, to those whom it refuses, and to itself. */
export async function overload(settings: Settings, { signal, onProgress }: Watch): Promise<OverloadFigure> {
  const prompts = await heldOutPrompts(settings.package, { count: PROMPTS, tokens: settings.tokens });
  await using load = startLoad();
  await using server = await startServer(settings, PLACES);
  const parts = { settings, load, server, prompts };
  onProgress?.('full load');
  const full = await fullLoad(parts);
  signal?.throwIfAborted();
  onProgress?.(`${settings.minutes} minutes of overload`);
  const offeredPerSecond = full.answersPerSecond * TIMES;
  const over = await overloaded(parts, offeredPerSecond);
  const again = await fullLoad(parts);
  const { rowsPerSecond: fullRows, ...fullFigure } = full;
  const figure: OverloadFigure = {
    places: PLACES,
    full: { clients: FULL, ...fullFigure },
    offeredPerSecond,
    ...over.figure,
    admittedMs: { ...over.admittedMs, ofFullP99: over.admittedMs.p99 / full.p99Ms },
    rowsPerSecond: { full: fullRows, ...over.rowsPerSecond },
    fullAgain: { answersPerSecond: again.answersPerSecond, p99Ms: again.p99Ms },
  };
  return figure;
}

interface Parts {
  readonly settings: Settings;
  readonly load: LoadChild;
  readonly server: ServerChild;
  readonly prompts: readonly string[];
}

async function fullLoad({ settings: { tokens }, load, server, prompts }: Parts) {
  const ms = FULL_SECONDS * 1000;
  const { url, pid } = server;
  const reading = await load.ask('load', { url, pid, prompts, tokens, stream: false, clients: FULL, ms });
  return {
    answersPerSecond: reading.tokensPerSecond / tokens,
    p99Ms: percentile(samplesOf(reading.answers.map((answer) => answer.ms)), 0.99),
    rowsPerSecond: (reading.rowsPerStep / reading.stepMs) * 1000,
  };
}

async function overloaded({ settings, load, server, prompts }: Parts, perSecond: number) {
  const { tokens, minutes } = settings;
  const ms = minutes * MINUTE_MS;
  await server.ask('delays');
  using memory = new MemoryWatch(server.pid);
  using steps = new StepWatch(server);
  const asked = load.ask('open', { url: server.url, prompts, tokens, perSecond, ms });
  const before = cpuOf(server, load);
  await sleep(ms);
  const cores = shares(before, cpuOf(server, load), ms);
  const eventLoopDelay = await server.ask('delays');
  await sleep(AFTER.to);
  const { admittedMs, refusedMs, offered: _, ...counts } = await asked;
  const secondMinute = memory.median('rssBytes', MINUTE_MS, 2 * MINUTE_MS);
  const secondHalf = memory.median('rssBytes', ms / 2, ms);
  return {
    admittedMs: quantiles(admittedMs),
    rowsPerSecond: {
      overload: steps.rowsPerSecond(ms / 2, ms),
      after: steps.rowsPerSecond(ms + AFTER.from, ms + AFTER.to),
    },
    figure: {
      ...counts,
      refusedMs: quantiles(refusedMs),
      eventLoopDelay,
      cores,
      rss: { secondMinute, secondHalf, ratio: secondHalf / secondMinute },
    },
  };
}

/** Milliseconds of processor time so far. */
function cpuOf(server: ServerChild, load: LoadChild) {
  const { pid } = server;
  return { server: cpuMs(pid), mainThread: cpuMs(pid, pid), load: cpuMs(load.pid) };
}

function shares(before: ReturnType<typeof cpuOf>, after: ReturnType<typeof cpuOf>, ms: number) {
  const share = (key: keyof typeof after) => (after[key] - before[key]) / ms;
  return { server: share('server'), mainThread: share('mainThread'), load: share('load') };
}

function quantiles(ms: readonly number[]): { p50: number; p99: number } {
  const sorted = samplesOf(ms);
  return { p50: percentile(sorted, 0.5), p99: percentile(sorted, 0.99) };
}

export function tableRows(figure: OverloadFigure): { figure: string; value: string }[] {
  const { full, admittedMs, refusedMs, statuses, rss, rowsPerSecond, fullAgain, eventLoopDelay, cores } =
    figure;
  const ms = (value: number) => `${value.toFixed(1)} ms`;
  const rate = (value: number) => value.toFixed(1);
  const rows = {
    'full load': `${rate(full.answersPerSecond)} answers/s, p99 ${ms(full.p99Ms)}`,
    offered: `${rate(figure.offeredPerSecond)}/s, made ${rate(figure.madePerSecond)}/s`,
    statuses: JSON.stringify(statuses),
    admitted: `p50 ${ms(admittedMs.p50)}, p99 ${ms(admittedMs.p99)}: ${admittedMs.ofFullP99.toFixed(2)} of full load`,
    refused: `p50 ${ms(refusedMs.p50)}, p99 ${ms(refusedMs.p99)}, ${figure.refusedWithoutRetryAfter} without Retry-After`,
    'event loop': `p99 ${ms(eventLoopDelay.p99Ms)}, most ${ms(eventLoopDelay.maxMs)}`,
    cores: `server ${cores.server.toFixed(2)}, its main thread ${cores.mainThread.toFixed(2)}, load ${cores.load.toFixed(2)}`,
    memory: `second minute ${(rss.secondMinute / 1e6).toFixed(1)} MB, second half ${rss.ratio.toFixed(3)} of it`,
    'rows/s': `full ${rate(rowsPerSecond.full)}, overload ${rate(rowsPerSecond.overload)}, after ${rate(rowsPerSecond.after)}`,
    'full load again': `${rate(fullAgain.answersPerSecond)} answers/s, p99 ${ms(fullAgain.p99Ms)}`,
  };
  return Object.entries(rows).map(([name, value]) => ({ figure: name, value }));
}
