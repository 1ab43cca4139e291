import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import type { ExpertFile } from '../../src/experts/backend.js';
import { openProcesses, type ProcessesOptions } from '../../src/experts/processes.js';
import { makeExperts } from '../support/experts.js';
import { type Quantiles, quantilesOf, samplesOf } from '../support/measure.js';
import { printTable } from '../support/table.js';
import type { Bench } from './settings.js';

const TINY = { hidden: 64, inner: 16, activation: 'relu' } as const;
/** The default of openProcesses, named here so that the report has it. */
const CONCURRENCY = 2 * availableParallelism();
/** Readings of each figure, at most: sixty-four processes take seconds. */
const MAX_ROUNDS = 3;

/** Milliseconds are those of the whole start. */
export interface StartupFigure extends Quantiles {
  readonly experts: 'tiny' | 'big';
  readonly hidden: number;
  readonly inner: number;
  readonly processes: number;
  readonly expertsPerProcess: number;
  /** Processes that start at the same time. */
  readonly concurrency: number;
  /** Median of the whole divided by the number of processes. */
  readonly perProcessMs: number;
}

/** From the call of openProcesses to its return: the carrier threads are started, every process holds its experts. */
export async function startup({ settings, folder, big }: Bench): Promise<StartupFigure[]> {
  const { processes, rounds } = settings;
  const tiny = await makeExperts(join(folder, 'tiny'), { ...TINY, experts: Math.max(...processes) });
  const large = await big();
  const times = Math.min(rounds, MAX_ROUNDS);
  const figures: StartupFigure[] = [];
  for (const n of processes) {
    const taken = await start(tiny.files.slice(0, n), 'expert', times);
    const { hidden, inner } = TINY;
    figures.push(figure({ experts: 'tiny', hidden, inner, processes: n, expertsPerProcess: 1 }, taken));
  }
  for (const per of ['expert', 'device'] as const) {
    const { files, hidden, inner } = large;
    const taken = await start(files, per, times);
    const n = per === 'expert' ? files.length : 1;
    const expertsPerProcess = files.length / n;
    figures.push(figure({ experts: 'big', hidden, inner, processes: n, expertsPerProcess }, taken));
  }
  printTable(`Start of processes, ${CONCURRENCY} at a time`, figures.map(tableRow));
  return figures;
}

async function start(
  files: readonly ExpertFile[],
  oneProcessPer: NonNullable<ProcessesOptions['oneProcessPer']>,
  times: number,
): Promise<number[]> {
  const taken: number[] = [];
  for (let i = 0; i < times; i++) {
    const started = performance.now();
    const options = { devices: ['cpu'], oneProcessPer, start: { concurrency: CONCURRENCY } };
    await using _ = await openProcesses(files, options);
    taken.push(performance.now() - started);
  }
  return taken;
}

function figure(
  what: Omit<StartupFigure, 'concurrency' | 'perProcessMs' | keyof Quantiles>,
  taken: readonly number[],
): StartupFigure {
  const quantiles = quantilesOf(samplesOf(taken));
  return {
    ...what,
    concurrency: CONCURRENCY,
    ...quantiles,
    perProcessMs: quantiles.medianMs / what.processes,
  };
}

function tableRow(figure: StartupFigure): Record<string, string | number> {
  return {
    experts: figure.experts,
    processes: figure.processes,
    'experts each': figure.expertsPerProcess,
    'all ms': figure.medianMs.toFixed(0),
    'ms per process': figure.perProcessMs.toFixed(1),
  };
}
