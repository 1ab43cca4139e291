import { environment } from '../support/measure.js';
import { paretoFront } from './front.js';
import { hashOf } from './hash.js';
import type { Report, ReportRow, Row } from './report-schema.js';
import type { Source } from './source.js';
import type { Swept } from './sweep.js';
import { spreadOf } from './times.js';

/** What every report says, because it is easily read as more than it is. */
const SWAP_NOTE =
  'A rule that is swapped in at inference measures how this model bears the swap, not the merit of the rule in training.';
const ACAUSAL_NOTE =
  'Rules that are not causal look at later tokens: they cannot generate, and stay off the Pareto front of this causal model.';
const NO_QUALITY_NOTE =
  'Logits alone: no model computes, so quality is not known, and there is no Pareto front.';

/** What the figures depend on beside the source. */
export type Settings = Readonly<Record<string, unknown>>;

/** SHA-256 of all that decides the routing figures. */
export function inputsHash(source: Source, settings: Settings): string {
  return hashOf(JSON.stringify({ source: source.description, costs: source.costs ?? null, settings }));
}

export interface ReportParts {
  readonly source: Source;
  readonly inputs: string;
  readonly settings: Settings;
  readonly baselineId: string | undefined;
  /** From before the sweep. */
  readonly before: ReturnType<typeof environment>;
  readonly sweep: { readonly tried: number; readonly refused: number };
  readonly seconds: number;
}

export function reportOf({ rows, broken, reference }: Swept, parts: ReportParts): Report {
  const { source, inputs, settings, before, seconds } = parts;
  return {
    format: 'turnout-bench-routing',
    version: 1,
    notes: [
      ...(source.hasModel ? [SWAP_NOTE, ...(source.causal ? [ACAUSAL_NOTE] : [])] : [NO_QUALITY_NOTE]),
      ...(broken.length > 0
        ? [`Not in the rows: ${broken.length} under which the model came to NaN or infinity.`]
        : []),
      ...noiseNote(reference),
    ],
    inputs,
    source: { ...source.description },
    settings: { ...settings },
    sweep: { ...parts.sweep },
    seconds,
    ...before,
    loadAverageAfter: environment().loadAverage,
    reference: spreadOf(reference),
    causal: source.causal,
    broken,
    rows: markFront(rows, parts),
  };
}

/** From p10 to p90 a quiet machine stays within this. */
const QUIET = 1.3;

function noiseNote(reference: readonly number[]): string[] {
  const { p10, p90 } = spreadOf(reference);
  if (p90 <= QUIET * p10) return [];
  const times = (p90 / p10).toFixed(1);
  return [
    `The machine was noisy: the same call took up to ${times} times as long. Times tell little; routing figures and quality do not depend on it.`,
  ];
}

/** JSON with a line for each row: thousands of rows stay readable by line. */
export function reportText({ rows, ...head }: Report): string {
  const lines = rows.map((row) => `  ${JSON.stringify(row)}`);
  const text = JSON.stringify({ ...head, rows: [] }, null, 2);
  return text.replace(/\[\]\n}$/, () => `[\n${lines.join(',\n')}\n]\n}`);
}

function markFront(rows: readonly Row[], { source, baselineId }: ReportParts): ReportRow[] {
  const eligible = rows.filter(
    (row) => row.quality !== null && row.cost !== null && (row.causal || !source.causal),
  );
  const front = paretoFront(
    eligible.map(({ quality, cost }) => ({ bits: quality!.bitsPerByte, cost: cost!.flopsPerToken })),
  );
  const best = new Set(eligible.filter((_, i) => front[i]));
  return rows.map((row) => ({ ...row, baseline: row.id === baselineId, onFront: best.has(row) }));
}
