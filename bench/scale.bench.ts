import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { StageTimes } from '../src/moe-layer.js';
import { memoryBudget } from './layer/budget.js';
import { lastCache } from './layer/machine.js';
import { measureNoise } from './layer/noise.js';
import { shapeBytes } from './layer/shapes.js';
import { checkOutputs, evenCall, openContender, type ScaleContender } from './scale/calls.js';
import { reportOf, type ScaleReading } from './scale/report.js';
import { type ScaleSettings, shapeOf } from './scale/settings.js';
import { agree } from './support/cases.js';
import { type ExpertSet, makeExperts } from './support/experts.js';
import { environment } from './support/measure.js';
import type { SpeedReport } from './support/speed-report.js';

export interface ScaleRun {
  readonly signal?: AbortSignal;
  readonly onProgress?: (text: string) => void;
}

/** Tokens that a reading takes at least: calls of few tokens are repeated. */
const READING_TOKENS = 1024;
const PAUSE_MS = 20;

/**
 * What a token costs as experts grow in number, with k and the rows of each expert as they are and logits that are
 * given, beside the least number. The experts of fewer are the first of those of the most.
 */
export async function scale(settings: ScaleSettings, run: ScaleRun = {}): Promise<SpeedReport> {
  const [before, noise, began] = [environment(), measureNoise(), performance.now()];
  const { fitting, notes } = fitted(settings);
  const folder = await mkdtemp(join(tmpdir(), 'turnout-bench-scale-'));
  const contenders: ScaleContender[] = [];
  try {
    run.onProgress?.('writing experts');
    const set = await makeExperts(folder, shapeOf(settings, fitting.at(-1)!));
    for (const experts of fitting) contenders.push(...(await openChecked(set, experts, { settings, run })));
    const readings = await inTurns(contenders, settings.rounds, run);
    const seconds = (performance.now() - began) / 1000;
    return reportOf(readings, { settings: { ...settings, experts: fitting }, notes, before, noise, seconds });
  } finally {
    await Promise.all(contenders.map((contender) => contender.close()));
    await rm(folder, { recursive: true, force: true });
  }
}

/** As many experts as fit into memory, and what makes the figures others than they are to be. */
function fitted(settings: ScaleSettings): { fitting: readonly number[]; notes: readonly string[] } {
  const { experts, residency, backends, replicas } = settings;
  const bytes = (count: number) => shapeBytes(shapeOf(settings, count));
  const packed = backends.reduce((sum, backend) => sum + (backend === 'inline' ? 1 : replicas), 0);
  const copies = residency === 'mapped' ? 1 : 1 + packed;
  const budget = memoryBudget();
  const fits = experts.filter((count) => copies * bytes(count) <= budget);
  const fitting = fits.length > 0 ? fits : experts.slice(0, 1);
  const left = experts.slice(fitting.length);
  const [least, cache] = [bytes(fitting[0]!), lastCache()];
  const mib = (size: number) => `${(size / 2 ** 20).toFixed(0)} MiB`;
  return {
    fitting,
    notes: [
      `${fitting[0]} experts are ${mib(least)} of weights, ${(least / cache).toFixed(1)} times the last cache (${mib(cache)}); ${fitting.at(-1)} are ${mib(bytes(fitting.at(-1)!))}.`,
      ...(least < 2 * cache
        ? ['The least number of experts is nearly in the cache: the growth is partly that of memory.']
        : []),
      ...(left.length > 0 ? [`${left.join(', ')} experts left out: they do not fit into memory.`] : []),
    ],
  };
}

/** Opens the backends over the first `experts` of a set, once what they give is known to be right and the same. */
async function openChecked(
  set: ExpertSet,
  experts: number,
  { settings, run }: { readonly settings: ScaleSettings; readonly run: ScaleRun },
): Promise<ScaleContender[]> {
  const call = evenCall(experts, settings);
  const opened: ScaleContender[] = [];
  let first: Float32Array | undefined;
  for (const backend of settings.backends) {
    run.signal?.throwIfAborted();
    run.onProgress?.(`opening ${experts} experts, ${backend}`);
    const contender = await openContender(backend, set.files.slice(0, experts), { call, settings });
    opened.push(contender);
    const { data } = await checkOutputs(contender, set, { call, settings });
    if (first) agree(`${backend}, ${experts} experts`, data, first, 0);
    first ??= data;
  }
  return opened;
}

/** Reads all in turns, in another order each round. */
async function inTurns(
  contenders: readonly ScaleContender[],
  rounds: number,
  { signal, onProgress }: ScaleRun,
): Promise<ScaleReading[]> {
  const readings = contenders.map((contender): ScaleReading => ({ contender, microseconds: [], stages: [] }));
  for (let round = 0; round < rounds; round++) {
    for (let i = 0; i < readings.length; i++) {
      signal?.throwIfAborted();
      const reading = readings[(i + round) % readings.length]!;
      const { backend, experts } = reading.contender;
      onProgress?.(`round ${round + 1} of ${rounds}: ${experts} experts, ${backend}`);
      await sleep(PAUSE_MS);
      await read(reading);
    }
  }
  return readings;
}

async function read({ contender, microseconds, stages }: ScaleReading): Promise<void> {
  const repeats = Math.ceil(READING_TOKENS / contender.tokens);
  const times: StageTimes[] = [];
  const began = performance.now();
  for (let i = 0; i < repeats; i++) times.push((await contender.run()).times);
  microseconds.push((1000 * (performance.now() - began)) / repeats / contender.tokens);
  stages.push(times);
}
