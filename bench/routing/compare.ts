import type { Report, ReportRow, Times } from './report-schema.js';

/** A figure of one row that is another now. */
export interface Change {
  readonly figure: string;
  readonly before: number | null;
  readonly after: number | null;
}

export interface ChangedRow {
  readonly row: ReportRow;
  readonly routing: readonly Change[];
  readonly times: readonly Change[];
}

export interface Comparison {
  /** Both are of the same source, costs, k and seed. */
  readonly sameInputs: boolean;
  readonly sameHardware: boolean;
  readonly compared: number;
  readonly changed: readonly ChangedRow[];
  readonly added: readonly ReportRow[];
  readonly gone: readonly ReportRow[];
}

/** What changed from an old report to a new one: routing figures at all, times beyond the spread of both. */
export function compareReports(before: Report, after: Report): Comparison {
  const old = new Map(before.rows.map((row) => [row.id, row]));
  const now = new Set(after.rows.map(({ id }) => id));
  const noise = Math.max(noiseOf(before), noiseOf(after));
  const both = after.rows.filter(({ id }) => old.has(id));
  return {
    sameInputs: before.inputs === after.inputs,
    sameHardware: JSON.stringify(before.hardware) === JSON.stringify(after.hardware),
    compared: both.length,
    changed: both
      .map((row) => {
        const was = old.get(row.id)!;
        return { row, routing: routingChanges(was, row), times: timeChanges(was.times, row.times, noise) };
      })
      .filter(({ routing, times }) => routing.length + times.length > 0),
    added: after.rows.filter(({ id }) => !old.has(id)),
    gone: before.rows.filter(({ id }) => !now.has(id)),
  };
}

/** Every number of a row but its times, by its path. */
function routingChanges(before: ReportRow, after: ReportRow): Change[] {
  const figures = ({ quality, drops, load, losses, cost, layers }: ReportRow) =>
    new Map(numbers({ quality, drops, load, losses, cost, layers }, ''));
  const [was, is] = [figures(before), figures(after)];
  const paths = [...new Set([...was.keys(), ...is.keys()])];
  return paths
    .map((figure) => ({ figure, before: was.get(figure) ?? null, after: is.get(figure) ?? null }))
    .filter((change) => change.before !== change.after);
}

function* numbers(value: unknown, path: string): Generator<[string, number]> {
  if (typeof value === 'number') yield [path, value];
  if (typeof value !== 'object' || value === null) return;
  for (const [key, item] of Object.entries(value)) yield* numbers(item, path === '' ? key : `${path}.${key}`);
}

/** How many times as long the same call may take in one run. */
function noiseOf({ reference: { p10, p90 } }: Report): number {
  return p90 / p10;
}

/** The call, where not even the spreads (p10 to p90) touch, and the medians are further apart than the machine wavers. */
function timeChanges(before: Times, after: Times, noise: number): Change[] {
  const [was, is] = [before.call, after.call];
  const apart = was.p90 < is.p10 || is.p90 < was.p10;
  const ratio = Math.max(was.p50, is.p50) / Math.min(was.p50, is.p50);
  if (!apart || ratio <= noise) return [];
  return [{ figure: 'times.call.p50', before: was.p50, after: is.p50 }];
}

/** Changed figures of one row that are told; the JSON reports have all. */
const MOST_FIGURES = 4;

export function drawComparison(comparison: Comparison, most = 40): string {
  const { sameInputs, sameHardware, compared, changed, added, gone } = comparison;
  const lines = [`Compared ${compared} rows: ${changed.length || 'none'} changed.`];
  if (!sameInputs) lines.push('The inputs differ (source, sizes, k or seed): so do the routing figures.');
  if (!sameHardware) lines.push('The hardware differs: times, and the last digits of quality, tell little.');
  for (const { row, routing, times } of changed.slice(0, most)) {
    const told = [...routing.slice(0, MOST_FIGURES), ...times].map(drawChange);
    const more = routing.length > MOST_FIGURES ? [`and ${routing.length - MOST_FIGURES} more`] : [];
    lines.push(`  ${title(row)}: ${[...told, ...more].join('; ')}`);
  }
  if (changed.length > most) lines.push(`  and ${changed.length - most} more rows`);
  if (added.length > 0) lines.push(`New: ${titles(added)}`);
  if (gone.length > 0) lines.push(`Gone: ${titles(gone)}`);
  return lines.join('\n');
}

function drawChange({ figure, before, after }: Change): string {
  return `${figure} ${before ?? 'unknown'} -> ${after ?? 'unknown'}`;
}

export function title({ name, factor, priority, overflow, scope }: ReportRow): string {
  const words = [name, factor === 'none' ? 'dropless' : `factor ${factor}`, priority, overflow, scope];
  return words.filter((word) => word !== '-').join(' ');
}

function titles(rows: readonly ReportRow[]): string {
  const shown = rows.slice(0, 5).map(title);
  return `${shown.join(', ')}${rows.length > 5 ? ` and ${rows.length - 5} more` : ''}`;
}
