import { limitSpread } from './noise.js';
import type { CaseFigures, Report, ShapeFigures } from './report-schema.js';
import { type LayerShape, shapeText } from './shapes.js';

/** One time of one contender in two reports. */
export interface Change {
  readonly shape: string;
  readonly load: string;
  readonly tokens: number;
  readonly contender: string;
  readonly before: Timed;
  readonly after: Timed;
}

interface Timed {
  readonly medianMs: number;
  /** Of the limit of its own run. */
  readonly ofLimit: number;
}

export interface Comparison {
  readonly sameHardware: boolean;
  readonly compared: number;
  /** Times that are further apart than the machine wavered. */
  readonly changed: readonly Change[];
  /** Contenders of cases that only one of the reports has. */
  readonly added: number;
  readonly gone: number;
}

interface Entry extends Omit<Change, 'before' | 'after'> {
  readonly timed: Timed & { readonly p10Ms: number; readonly p90Ms: number };
  /** How many times as long the same expert calls took in this case. */
  readonly noise: number;
}

/**
 * What changed from an old report to a new one: times whose spreads (p10 to p90) do not touch, and whose medians and
 * shares of the limit both differ by more than the limit wavered. A machine that is faster as a whole changes nothing.
 */
export function compareReports(before: Report, after: Report): Comparison {
  const old = entriesOf(before);
  const now = entriesOf(after);
  const both = [...now].filter(([key]) => old.has(key));
  return {
    sameHardware: JSON.stringify(before.hardware) === JSON.stringify(after.hardware),
    compared: both.length,
    changed: both.flatMap(([key, entry]) => changeOf(old.get(key)!, entry)),
    added: now.size - both.length,
    gone: old.size - both.length,
  };
}

function entriesOf({ shapes }: Report): Map<string, Entry> {
  const entries = shapes.flatMap((shape) => shape.cases.flatMap((figures) => entriesOfCase(shape, figures)));
  return new Map(
    entries.map((entry) => [[entry.shape, entry.load, entry.tokens, entry.contender].join('|'), entry]),
  );
}

function entriesOfCase({ shape }: ShapeFigures, figures: CaseFigures): Entry[] {
  const { load, tokens, contenders } = figures;
  return contenders.map(({ name, ...timed }) => ({
    shape: shapeText(shape as LayerShape),
    load,
    tokens,
    contender: name,
    timed,
    noise: limitSpread(figures),
  }));
}

function changeOf(was: Entry, is: Entry): Change[] {
  const { timed, noise, ...place } = is;
  const apart = was.timed.p90Ms < timed.p10Ms || timed.p90Ms < was.timed.p10Ms;
  const wavering = Math.max(was.noise, noise);
  const beyond = (a: number, b: number) => Math.max(a, b) / Math.min(a, b) > wavering;
  const differs = beyond(was.timed.medianMs, timed.medianMs) && beyond(was.timed.ofLimit, timed.ofLimit);
  if (!apart || !differs) return [];
  const both = ({ medianMs, ofLimit }: Timed) => ({ medianMs, ofLimit });
  return [{ ...place, before: both(was.timed), after: both(timed) }];
}

export function drawComparison({ compared, changed, sameHardware, added, gone }: Comparison): string {
  const lines = [`Compared ${compared} times: ${changed.length || 'none'} changed beyond the noise.`];
  if (!sameHardware) lines.push('The hardware differs: compare the ratios, not the times.');
  for (const { shape, load, tokens, contender, before, after } of changed) {
    const times = `${before.medianMs.toFixed(2)} -> ${after.medianMs.toFixed(2)} ms`;
    const shares = `${before.ofLimit.toFixed(2)} -> ${after.ofLimit.toFixed(2)} of the limit`;
    lines.push(`  ${shape}, ${load}, T = ${tokens}, ${contender}: ${times} (${shares})`);
  }
  if (added > 0) lines.push(`New: ${added} times.`);
  if (gone > 0) lines.push(`Gone: ${gone} times.`);
  return lines.join('\n');
}
