import { TurnoutError } from '../../src/errors.js';
import type { ReportRow } from './report-schema.js';

export interface Column {
  readonly name: string;
  readonly about: string;
  /** Nothing where the row does not know. */
  value(row: ReportRow): number | null | undefined;
  show(value: number): string;
  /** Better is larger: sorted from the largest. */
  readonly descending?: true;
  /** Left out of the table in the terminal, which is wide enough; sorted by all the same. */
  readonly hidden?: true;
}

const fixed = (digits: number) => (value: number) => value.toFixed(digits);
const percent = (value: number) => (100 * value).toFixed(2);
const signed = (value: number) => `${value < 0 ? '-' : '+'}${Math.abs(value).toFixed(4)}`;

/** The figures of the table, by which it can be sorted. */
export const COLUMNS: readonly Column[] = [
  {
    name: 'bits',
    about: 'bits per byte',
    value: ({ quality }) => quality?.bitsPerByte,
    show: fixed(4),
  },
  {
    name: 'change',
    about: 'bits per byte above the trained rule',
    value: ({ quality }) => quality?.change,
    show: signed,
  },
  {
    name: 'error',
    about: 'standard error of the change over the sequences',
    value: ({ quality }) => quality?.changeError ?? undefined,
    show: fixed(4),
  },
  {
    name: 'MFLOP',
    about: 'million operations of experts for each token, all layers',
    value: ({ cost }) => cost && cost.flopsPerToken / 1e6,
    show: fixed(3),
  },
  {
    name: 'kB',
    about: 'thousand bytes of weights and rows moved for each token',
    value: ({ cost }) => cost && cost.bytesPerToken / 1e3,
    show: fixed(1),
  },
  {
    name: 'drop%',
    about: 'share of the assignments that were dropped, by capacity or by a rule on later choices',
    value: ({ drops }) => drops.dropRate,
    show: percent,
  },
  {
    name: 'skip%',
    about: 'share of the tokens that a layer gave no expert',
    value: ({ drops, tokens, layers }) => drops.tokensDropped / (tokens * layers.length),
    show: percent,
  },
  {
    name: 'moved%',
    about: 'share of the assignments that went to the next-best expert',
    value: ({ drops }) => drops.rerouted / Math.max(1, drops.chosen),
    show: percent,
  },
  { name: 'cv', about: 'load: deviation over mean', value: ({ load }) => load.cv, show: fixed(3) },
  {
    name: 'maxvio',
    about: 'load: largest over mean, less 1',
    value: ({ load }) => load.maxVio,
    show: fixed(3),
  },
  {
    name: 'callvio',
    about: 'maxvio of single calls, meaned',
    value: ({ load }) => load.callMaxVio,
    show: fixed(3),
  },
  {
    name: 'balance',
    about: 'load: mean over largest',
    value: ({ load }) => load.balancedness,
    show: fixed(3),
    descending: true,
    hidden: true,
  },
  {
    name: 'entropy',
    about: 'load: entropy of the shares over that of even ones',
    value: ({ load }) => load.normalisedEntropy,
    show: fixed(3),
    descending: true,
  },
  { name: 'dead', about: 'experts without load, all layers', value: ({ load }) => load.dead, show: fixed(0) },
  {
    name: 'switch',
    about: 'load-balancing loss "switch", 1 when balanced',
    value: ({ losses }) => losses.switch ?? undefined,
    show: fixed(3),
  },
  {
    name: 'tok/s',
    about: 'tokens a second',
    value: ({ times }) => times.tokensPerSecond,
    show: fixed(0),
    descending: true,
  },
  {
    name: 'p50',
    about: 'milliseconds of a call, median',
    value: ({ times }) => times.call.p50,
    show: fixed(1),
  },
  {
    name: 'p99',
    about: 'milliseconds of a call, 99 of 100',
    value: ({ times }) => times.call.p99,
    show: fixed(1),
  },
];

/** Throws TURNOUT_OPTIONS_INVALID for a name that is none. */
export function columnOf(name: string): Column {
  const column = COLUMNS.find((own) => own.name === name);
  if (column) return column;
  const names = COLUMNS.map((own) => own.name);
  const message = `--sort: expected one of ${names.join(', ')}, got "${name}"`;
  throw new TurnoutError('TURNOUT_OPTIONS_INVALID', message, { got: name, columns: names });
}

/** By one column, the best first; rows without a value last, equal ones as they came. */
export function sortRows(rows: readonly ReportRow[], { value, descending }: Column): ReportRow[] {
  const worst = Number.POSITIVE_INFINITY;
  const key = (row: ReportRow) => {
    const own = value(row);
    if (own === undefined || own === null) return worst;
    return descending ? -own : own;
  };
  // Infinity less itself is no number.
  return rows.toSorted((a, b) => (key(a) === key(b) ? 0 : key(a) - key(b)));
}
