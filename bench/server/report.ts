import type { measureNoise } from '../layer/noise.js';
import { environment } from '../support/measure.js';
import { doubtsOf, type SpeedReport, type SpeedRow } from '../support/speed-report.js';
import type { Spread } from '../support/spread.js';
import { type LoadFigure, NAMES, tableRow } from './load-figures.js';
import { type OverloadFigure, tableRows } from './overload.js';
import type { Settings } from './settings.js';
import { loadTargets, overloadTargets, type Target, targetRows } from './targets.js';

export const FORMAT = 'turnout-bench-server';

export interface ServerFigures {
  readonly throughput?: readonly LoadFigure[];
  readonly overload?: OverloadFigure;
}

/** What `turnout bench server --json` writes. */
export interface ServerReport extends SpeedReport {
  readonly targets: readonly Target[];
  readonly figures: ServerFigures;
}

export interface ReportParts {
  readonly settings: Settings;
  readonly before: ReturnType<typeof environment>;
  readonly noise: ReturnType<typeof measureNoise>;
  readonly seconds: number;
}

export function reportOf(
  figures: ServerFigures,
  { settings, before, noise, seconds }: ReportParts,
): ServerReport {
  const { loadAverage } = environment();
  const { throughput = [], overload } = figures;
  const rows = throughput.map(rowOf);
  const limits = throughput
    .filter(({ name }) => name === NAMES.engine)
    .map((figure) => figure.tokensPerSecond);
  return {
    format: FORMAT,
    version: 1,
    source: { package: settings.package, tokens: settings.tokens },
    settings: { ...settings },
    notes: doubtsOf({ before, noise, loadAverageAfter: loadAverage, limits }),
    seconds,
    ...before,
    loadAverageAfter: loadAverage,
    targets: [...loadTargets(throughput), ...(overload ? overloadTargets(overload) : [])],
    rows,
    figures,
  };
}

function rowOf(figure: LoadFigure): SpeedRow {
  const { name, clients, tokensPerSecond, ofEngine, stepMs, rowsPerStep } = figure;
  const figures: Record<string, Spread> = { 'tokens/s': tokensPerSecond, 'of engine': ofEngine };
  const role = name === NAMES.engine ? 'rival' : 'runtime';
  return {
    id: `${name}, ${clients} clients`,
    role,
    figures: { ...figures, 'step ms': stepMs, 'rows/step': rowsPerStep },
  };
}

export interface Table {
  readonly title: string;
  readonly rows: readonly Readonly<Record<string, string | number>>[];
}

/** One for each number of clients, then overload and targets. */
export function tablesOf({ figures, targets }: ServerReport): Table[] {
  const { throughput = [], overload } = figures;
  const clients = [...new Set(throughput.map((figure) => figure.clients))];
  return [
    ...clients.map((count) => ({
      title: `${count} clients`,
      rows: throughput.filter((figure) => figure.clients === count).map(tableRow),
    })),
    ...(overload
      ? [
          {
            title: `Overload, ${overload.places.running + overload.places.queue} places`,
            rows: tableRows(overload),
          },
        ]
      : []),
    { title: 'Targets', rows: targetRows(targets) },
  ];
}
