import Type, { type Static } from 'typebox';
import { checker } from '../../src/schema.js';
import { idleNotes, type measureNoise, QUIET } from '../layer/noise.js';
import type { environment } from './measure.js';
import { runFields } from './run-fields.js';

const Spread = Type.Object({ median: Type.Number(), least: Type.Number(), most: Type.Number() });

const SpeedRow = Type.Object({
  id: Type.String({ description: 'What is measured; the same in reports that are compared.' }),
  role: Type.String({ description: 'runtime, rival, or limit.' }),
  figures: Type.Record(Type.String(), Spread, { description: 'By name with unit; of ratios: to whom.' }),
  more: Type.Optional(Type.Unknown()),
});
export type SpeedRow = Static<typeof SpeedRow>;

const Report = Type.Object({
  format: Type.String(),
  version: Type.Literal(1),
  source: Type.Record(Type.String(), Type.Unknown()),
  settings: Type.Record(Type.String(), Type.Unknown()),
  notes: Type.Array(Type.String()),
  ...runFields,
  rows: Type.Array(SpeedRow),
});
/** What `turnout bench startup --json`, `server` and `scale` write: rows of figures, each with its spread. */
export type SpeedReport = Static<typeof Report>;

const check = checker(Report, 'TURNOUT_INPUT_INVALID', '--compare');

/** A report of that format. Throws TURNOUT_INPUT_INVALID. */
export function checkSpeedReport(value: unknown, format: string): SpeedReport {
  const report = check(value);
  return report.format === format ? report : checkFormat(format)(value);
}

function checkFormat(format: string) {
  const schema = Type.Object({ ...Report.properties, format: Type.Literal(format) });
  return checker(schema, 'TURNOUT_INPUT_INVALID', '--compare');
}

export interface Doubts {
  /** From before the run. */
  readonly before: ReturnType<typeof environment>;
  readonly noise: ReturnType<typeof measureNoise>;
  readonly loadAverageAfter: readonly number[];
  /** The limit, which nothing of the runtime is in. */
  readonly limits: readonly SpeedRow['figures'][string][];
}

/** What makes the figures of a run doubtful, in words. */
export function doubtsOf({ before, noise, loadAverageAfter, limits }: Doubts): string[] {
  const notes = idleNotes(noise, 'Short times');
  const { cores } = before.hardware;
  // Only what computed before this run: its own load is in the average that follows.
  if (before.loadAverage[0]! > cores / 2)
    notes.push(
      `Others compute here: the load average was ${before.loadAverage[0]!.toFixed(1)} before the run, ${loadAverageAfter[0]!.toFixed(1)} after it, on ${cores} cores.`,
    );
  const most = Math.max(1, ...limits.map(({ most, least }) => most / least));
  if (most > QUIET)
    notes.push(
      `The machine was noisy: the same limit took up to ${most.toFixed(1)} times as long. Trust the ratios more than the times, and both little.`,
    );
  return notes;
}

/** What changed from an old report to a new one, in lines: figures whose spreads do not touch. */
export function compareSpeed(before: SpeedReport, after: SpeedReport): string[] {
  const old = new Map(before.rows.map((row) => [row.id, row]));
  const now = new Set(after.rows.map(({ id }) => id));
  const same = (key: 'source' | 'hardware') => JSON.stringify(before[key]) === JSON.stringify(after[key]);
  const both = after.rows.filter(({ id }) => old.has(id));
  const changes = both.flatMap((row) => rowChanges(old.get(row.id)!, row));
  const gone = before.rows.filter(({ id }) => !now.has(id)).length;
  return [
    ...(same('source') ? [] : ['What was measured differs: the figures are of other things.']),
    ...(same('hardware') ? [] : ['The hardware differs: compare the ratios alone.']),
    `Compared ${both.length} rows with ${before.date} (${before.versions.turnout}): ${changes.length} figures changed beyond their spreads.`,
    ...changes,
    ...(gone > 0 || both.length < after.rows.length
      ? [`${after.rows.length - both.length} rows are new, ${gone} gone.`]
      : []),
  ];
}

function rowChanges(before: SpeedRow, after: SpeedRow): string[] {
  return Object.entries(after.figures).flatMap(([name, now]) => {
    const was = before.figures[name];
    if (!was || (now.least <= was.most && was.least <= now.most)) return [];
    const ratio = now.median / was.median;
    return [`  ${after.id}: ${name} ${digits(was.median)} -> ${digits(now.median)} (${ratio.toFixed(2)}x)`];
  });
}

/** A number with three digits or more. */
export function digits(value: number): string {
  const size = Math.abs(value);
  return value.toFixed(size >= 100 ? 0 : size >= 10 ? 1 : size >= 1 ? 2 : 3);
}
