import { readFileSync } from 'node:fs';
import { mkdir, writeFile } from 'node:fs/promises';
import { availableParallelism, cpus, loadavg, totalmem } from 'node:os';
import { dirname } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { asksForHugePages } from '../../src/experts/huge-pages.js';
import { runtimeInfo } from '../../src/experts/session.js';

/** Milliseconds, smallest first. Only `samplesOf` makes one, so percentiles are never taken of unsorted numbers. */
export interface Samples {
  readonly [sorted]: true;
  readonly ms: readonly number[];
}
declare const sorted: unique symbol;

export interface Contender {
  readonly name: string;
  run(): Promise<unknown>;
  /** Milliseconds of one run, as the mean of `repeats`, where it reads a clock of its own. */
  timed?(repeats: number): Promise<number>;
}

export interface MeasureOptions {
  /** A contender runs for at least this long at a time. */
  readonly readingMs?: number;
  /** Looked at between two readings; its reason is thrown. */
  readonly signal?: AbortSignal;
}

/** Long enough for one reading of the clock to be exact, and for a pause to be over. */
const READING_MS = 20;
/** Two readings of the clock are 1 % of this where it is fine, and more where it is coarse. */
const SHORT_MS = 0.1;
/** Thread pools of ONNX Runtime spin for some milliseconds after a run, and would take time from whoever comes next. */
const PAUSE_MS = 20;

/**
 * Times the contenders in turns, `rounds` times each, after one untimed turn: what disturbs the machine disturbs all of
 * them. Each turn repeats a short run, after some that are not timed and take as long: others have had the caches
 * meanwhile, and threads have slept. After a single one, those who share their weights with the contender before them (as
 * limits and least layers do) are faster. The order changes from round to round.
 */
export async function measure(
  contenders: readonly Contender[],
  rounds: number,
  { readingMs = READING_MS, signal }: MeasureOptions = {},
): Promise<Map<string, Samples>> {
  const ms = new Map<string, number[]>();
  const repeats = new Map<string, number>();
  for (const contender of contenders) {
    signal?.throwIfAborted();
    await contender.run();
    const once = await timed(contender, 1);
    const count = Math.max(1, Math.ceil(readingMs / once));
    await timed(contender, count);
    repeats.set(contender.name, count);
    ms.set(contender.name, []);
  }
  for (let round = 0; round < rounds; round++) {
    for (let i = 0; i < contenders.length; i++) {
      signal?.throwIfAborted();
      const contender = contenders[(i + round) % contenders.length]!;
      await sleep(PAUSE_MS);
      await warm(contender, readingMs);
      ms.get(contender.name)!.push(await timed(contender, repeats.get(contender.name)!));
    }
  }
  return new Map([...ms].map(([name, values]) => [name, samplesOf(values)]));
}

async function warm(contender: Contender, ms: number): Promise<void> {
  const until = performance.now() + ms;
  do await contender.run();
  while (performance.now() < until);
}

export function samplesOf(ms: readonly number[]): Samples {
  return { ms: ms.toSorted((a, b) => a - b) } as unknown as Samples;
}

/** Milliseconds of one of `repeats` runs: the median one, which a pause of the machine does not move; the mean of short ones. */
async function timed(contender: Contender, repeats: number): Promise<number> {
  if (contender.timed) return contender.timed(repeats);
  const ms: number[] = [];
  for (let i = 0; i < repeats; i++) {
    const started = performance.now();
    await contender.run();
    ms.push(performance.now() - started);
  }
  const middle = median(samplesOf(ms));
  return middle > SHORT_MS ? middle : ms.reduce((sum, run) => sum + run, 0) / repeats;
}

/** The middle one, or the mean of the two in the middle: of two readings the longer one would tell what disturbed it. */
export function median({ ms }: Samples): number {
  return (ms[(ms.length - 1) >> 1]! + ms[ms.length >> 1]!) / 2;
}

/** The sample below which the share `p` of them lies. */
export function percentile({ ms }: Samples, p: number): number {
  return ms[Math.min(ms.length - 1, Math.floor(p * ms.length))]!;
}

export interface Quantiles {
  readonly medianMs: number;
  readonly p10Ms: number;
  readonly p90Ms: number;
}

export function quantilesOf(samples: Samples): Quantiles {
  return { medianMs: median(samples), p10Ms: percentile(samples, 0.1), p90Ms: percentile(samples, 0.9) };
}

/** What figures depend on. A load average above the threads in use means that others computed meanwhile. */
export function environment() {
  const { version } = JSON.parse(readFileSync(new URL('../../../package.json', import.meta.url), 'utf8'));
  return {
    date: new Date().toISOString(),
    hardware: {
      cpu: cpus()[0]?.model ?? 'unknown',
      cores: availableParallelism(),
      memoryGiB: Math.round(totalmem() / 2 ** 30),
      hugePages: asksForHugePages(),
    },
    versions: { turnout: version as string, node: process.version, onnxruntime: runtimeInfo().onnxruntime },
    loadAverage: loadavg(),
  };
}

/** Writes a report as JSON; folders are made where absent. */
export async function writeReport(path: string, report: unknown): Promise<void> {
  await mkdir(dirname(path), { recursive: true });
  await writeFile(path, `${JSON.stringify(report, null, 2)}\n`);
}
