import { type AxisFlags, parseAxes } from '../../dist/bench/routing/axes.js';
import { baselineOf, type Combination, combinationsOf } from '../../dist/bench/routing/combinations.js';
import { inputsHash, reportOf } from '../../dist/bench/routing/report.js';
import type { Report, Row } from '../../dist/bench/routing/report-schema.js';
import type { Source } from '../../dist/bench/routing/source.js';
import { sweep } from '../../dist/bench/routing/sweep.js';
import { environment } from '../../dist/bench/support/measure.js';

/** Every row of a source, and the report of them. */
export async function benchRouting(source: Source, flags: AxisFlags = {}, seed = 0): Promise<Report> {
  const before = environment();
  const baseline = baselineOf(source, { seed });
  const { all: combinations, ...tried } = chosen(source, flags, seed);
  const swept = await sweep({ source, combinations, baseline, repeats: 1 });
  const inputs = inputsHash(source, { seed });
  const parts = {
    source,
    inputs,
    settings: { seed },
    baselineId: baseline?.id,
    before,
    sweep: tried,
    seconds: 1,
  };
  return reportOf(swept, parts);
}

export function chosen(source: Source, flags: AxisFlags, seed = 0) {
  return combinationsOf(source, parseAxes(flags, source.baseline?.name), { seed });
}

/** All but the times: what must be the same again. */
export function routingFigures({ times, ...figures }: Row): Omit<Row, 'times'> {
  return figures;
}

/** The one combination of these words. */
export function find<T extends Pick<Combination, 'name' | 'factor' | 'priority' | 'overflow' | 'scope'>>(
  rows: readonly T[],
  words: Partial<Pick<Combination, 'name' | 'factor' | 'priority' | 'overflow' | 'scope' | 'capacity'>>,
): T {
  const fits = rows.filter((row) =>
    Object.entries(words).every(([key, value]) => row[key as keyof T] === value),
  );
  if (fits.length !== 1) throw new Error(`${JSON.stringify(words)}: ${fits.length} rows`);
  return fits[0]!;
}
