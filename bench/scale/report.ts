import type { StageTimes } from '../../src/moe-layer.js';
import type { measureNoise } from '../layer/noise.js';
import { environment } from '../support/measure.js';
import { digits, doubtsOf, type SpeedReport, type SpeedRow } from '../support/speed-report.js';
import { type Spread, spreadOf } from '../support/spread.js';
import type { ScaleContender } from './calls.js';
import type { ScaleSettings } from './settings.js';

export const FORMAT = 'turnout-bench-scale';

export interface ScaleReading {
  readonly contender: ScaleContender;
  /** A token, one for each round. */
  readonly microseconds: number[];
  /** Of the calls of each round. */
  readonly stages: (readonly StageTimes[])[];
}

const STAGES = ['routeMs', 'dispatchMs', 'transportMs', 'computeMs', 'combineMs'] as const;
const TOKEN = 'us/token';
const GROWTH = 'of the least experts';

export interface ReportParts {
  readonly settings: ScaleSettings;
  readonly notes: readonly string[];
  readonly before: ReturnType<typeof environment>;
  readonly noise: ReturnType<typeof measureNoise>;
  readonly seconds: number;
}

export function reportOf(readings: readonly ScaleReading[], parts: ReportParts): SpeedReport {
  const { settings, before, noise, seconds } = parts;
  const { loadAverage } = environment();
  const rows = readings.map((reading) => rowOf(reading, baseOf(reading, readings)));
  const limits = rows.map(({ figures }) => figures[TOKEN]!);
  const { k, rows: each, hidden, inner, residency, lanes, replicas } = settings;
  return {
    format: FORMAT,
    version: 1,
    source: { name: `k ${k}, ${each} rows an expert, ${hidden} x ${inner} float32 relu, ${residency}` },
    settings: { ...settings, lanes, replicas },
    notes: [...parts.notes, ...doubtsOf({ before, noise, loadAverageAfter: loadAverage, limits })],
    seconds,
    ...before,
    loadAverageAfter: loadAverage,
    rows,
  };
}

/** The same backend with the least experts. */
function baseOf({ contender }: ScaleReading, all: readonly ScaleReading[]): ScaleReading {
  return all.find(({ contender: { backend } }) => backend === contender.backend)!;
}

function rowOf(reading: ScaleReading, base: ScaleReading): SpeedRow {
  const { contender, microseconds } = reading;
  const { backend, experts, tokens } = contender;
  const figures: Record<string, Spread> = {
    [TOKEN]: spreadOf(microseconds),
    [GROWTH]: spreadOf(microseconds.map((value, round) => value / base.microseconds[round]!)),
  };
  for (const stage of STAGES) figures[stageName(stage)] = spreadOf(stageOf(reading, stage));
  return {
    id: `${backend}, ${experts} experts`,
    role: 'runtime',
    figures,
    more: { backend, experts, tokens },
  };
}

/** Microseconds a token, of each round. */
function stageOf({ contender, stages }: ScaleReading, stage: (typeof STAGES)[number]): number[] {
  return stages.map(
    (calls) => (1000 * calls.reduce((sum, times) => sum + times[stage], 0)) / calls.length / contender.tokens,
  );
}

function stageName(stage: (typeof STAGES)[number]): string {
  return `${stage.replace(/Ms$/, '')} us/token`;
}

export function tableRows({ rows }: SpeedReport): Record<string, string>[] {
  return rows.map(({ id, figures }) => ({
    layer: id,
    ...Object.fromEntries(
      Object.entries(figures).map(([name, { median, least, most }]) => [
        name,
        name === GROWTH ? `${digits(median)} (${digits(least)}-${digits(most)})` : digits(median),
      ]),
    ),
  }));
}
