import type { measureNoise } from '../layer/noise.js';
import { environment } from '../support/measure.js';
import { digits, doubtsOf, type SpeedReport, type SpeedRow } from '../support/speed-report.js';
import { type Spread, spreadOf } from '../support/spread.js';
import type { Contender } from './contenders.js';
import { FUSED } from './contenders.js';
import type { Reading } from './run.js';
import type { StartupSettings } from './settings.js';
import type { Source } from './source.js';
import type { Sample } from './task.js';

export const FORMAT = 'turnout-bench-startup';

/** Names of the figures of a row. */
export const FIGURE = {
  open: 'open ms',
  each: 'open ms/expert',
  first: 'first call ms',
  ready: 'until first answer ms',
  boot: 'node and code ms',
  memory: 'private KiB/expert',
  anonymous: 'anonymous KiB/expert',
  called: 'private MB after call',
  bandwidth: 'GB/s',
  ofLimit: 'open, of bare sessions',
  ofFused: 'open, of fused',
  memoryOfLimit: 'memory, of bare sessions',
} as const;

export interface ReportParts {
  readonly source: Source;
  readonly settings: StartupSettings;
  readonly notes: readonly string[];
  readonly before: ReturnType<typeof environment>;
  readonly noise: ReturnType<typeof measureNoise>;
  readonly seconds: number;
}

export function reportOf(readings: readonly Reading[], parts: ReportParts): SpeedReport {
  const { source, settings, before, noise, seconds } = parts;
  const rows = readings.map((reading) => rowOf(reading, readings, source.bytes));
  const { loadAverage } = environment();
  const limits = rows.flatMap(({ role, figures }) => (role === 'limit' ? [figures[FIGURE.open]!] : []));
  const { name, bytes, files, made } = source;
  return {
    format: FORMAT,
    version: 1,
    source: { name, experts: files.length, hidden: source.hidden, bytes, ...made },
    settings: { ...settings },
    notes: [...parts.notes, ...doubtsOf({ before, noise, loadAverageAfter: loadAverage, limits })],
    seconds,
    ...before,
    loadAverageAfter: loadAverage,
    rows,
  };
}

function rowOf({ contender, samples }: Reading, all: readonly Reading[], bytes: number): SpeedRow {
  const { residency, role, experts, task } = contender;
  const of = (value: (sample: Sample, round: number) => number) => spreadOf(samples.map(value));
  const read = task.kind === 'read';
  const openMs = (sample: Sample) =>
    sample.readBytes ? (sample.openMs * bytes) / sample.readBytes : sample.openMs;
  const figures: Record<string, Spread> = { [FIGURE.open]: of(openMs) };
  if (experts !== null) figures[FIGURE.each] = of((sample) => openMs(sample) / experts);
  if (read) figures[FIGURE.bandwidth] = of((sample) => sample.readBytes! / sample.openMs / 1e6);
  if (samples[0]!.outputs.length > 0 || task.kind === 'model') {
    figures[FIGURE.first] = of(({ firstMs }) => firstMs);
    figures[FIGURE.ready] = of((sample) => sample.openMs + sample.firstMs);
    figures[FIGURE.boot] = of(({ bootMs }) => bootMs);
  }
  if (samples[0]!.opened && experts !== null && !read) {
    figures[FIGURE.memory] = of(({ opened }) => opened!.privateBytes / 1024 / experts);
    figures[FIGURE.anonymous] = of(({ opened }) => opened!.anonymousBytes / 1024 / experts);
  }
  if (samples[0]!.called && !read) figures[FIGURE.called] = of(({ called }) => called!.privateBytes / 1e6);
  const limit = find(all, contender.beside);
  if (limit) {
    figures[FIGURE.ofLimit] = of((sample, i) => sample.openMs / limit.samples[i]!.openMs);
    if (samples[0]!.opened)
      figures[FIGURE.memoryOfLimit] = of(
        (sample, i) => sample.opened!.privateBytes / limit.samples[i]!.opened!.privateBytes,
      );
  }
  const fused = experts !== null && residency !== null && find(all, { name: FUSED, residency });
  if (fused && role !== 'rival')
    figures[FIGURE.ofFused] = of((sample, i) => sample.openMs / fused.samples[i]!.openMs);
  return { id: idOf(contender), role, figures };
}

function idOf({ name, residency }: Contender): string {
  return residency === null ? name : `${name}, ${residency}`;
}

function find(all: readonly Reading[], wanted: Contender['beside']): Reading | undefined {
  return all.find(
    ({ contender }) => contender.name === wanted?.name && contender.residency === wanted.residency,
  );
}

const COLUMNS = [
  FIGURE.open,
  FIGURE.each,
  FIGURE.ofLimit,
  FIGURE.ofFused,
  FIGURE.first,
  FIGURE.memory,
  FIGURE.memoryOfLimit,
  FIGURE.called,
  FIGURE.bandwidth,
] as const;

/** Rows for a terminal: medians, with the least and most of the ratio. */
export function tableRows({ rows }: SpeedReport): Record<string, string>[] {
  const columns = COLUMNS.filter((column) => rows.some(({ figures }) => figures[column]));
  return rows.map(({ id, role, figures }) => ({
    contender: id,
    role,
    ...Object.fromEntries(columns.map((column) => [column, cell(figures[column], column)])),
  }));
}

function cell(spread: Spread | undefined, column: (typeof COLUMNS)[number]): string {
  if (!spread) return '';
  const { median, least, most } = spread;
  if (column !== FIGURE.ofLimit && column !== FIGURE.open) return digits(median);
  return `${digits(median)} (${digits(least)}-${digits(most)})`;
}
