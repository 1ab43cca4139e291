import { COLUMNS, type Column, sortRows } from './columns.js';
import { title } from './compare.js';
import type { Report, ReportRow } from './report-schema.js';
import { STAGES } from './source.js';

export interface TableOptions {
  readonly sort: Column;
  /** Rows that are shown at most; the baseline and those of the front are shown in any case. */
  readonly rows: number;
  bold(text: string): string;
  dim(text: string): string;
}

/** Rows whose stages are told. */
const STAGE_ROWS = 3;

/** `*` on the front, `~` not causal, `=` what others are compared with. */
function marks({ onFront, causal, baseline }: ReportRow): string {
  return `${onFront ? '*' : ' '}${causal ? ' ' : '~'}${baseline ? '=' : ' '}`;
}

/** The rows as lines of a terminal, and what the marks mean. */
export function drawTable(report: Report, options: TableOptions): string {
  const sorted = sortRows(report.rows, options.sort);
  const shown = sorted.filter((row, i) => i < options.rows || row.onFront || row.baseline);
  const columns = COLUMNS.filter(
    (column) => (!column.hidden || column === options.sort) && sorted.some((row) => known(column.value(row))),
  );
  const texts = ['   rule', 'k', 'factor', 'priority', 'overflow', 'scope'];
  const head = [...texts, ...columns.map(({ name }) => name)];
  const body = shown.map((row) => [
    ...words(row),
    ...columns.map((column) => {
      const value = column.value(row);
      return known(value) ? column.show(value) : '';
    }),
  ]);
  const widths = head.map((text, i) =>
    Math.max(...[head, ...body].map((line) => line[i]!.length), text.length),
  );
  const line = (cells: readonly string[]) =>
    cells
      .map((cell, i) => (i < texts.length ? cell.padEnd(widths[i]!) : cell.padStart(widths[i]!)))
      .join('  ')
      .trimEnd();
  const lines = body.map((cells, i) => (shown[i]!.onFront ? options.bold(line(cells)) : line(cells)));
  const stages = drawStages(shown.slice(0, STAGE_ROWS), options);
  return [options.bold(line(head)), ...lines, '', ...stages, '', ...legend(report, shown, options)].join(
    '\n',
  );
}

function known(value: number | undefined | null): value is number {
  return value !== undefined && value !== null;
}

function words(row: ReportRow): string[] {
  const { name, choices, factor, priority, overflow, scope, capacity } = row;
  const own = capacity === 'own' ? name : `${name}'`;
  return [`${marks(row)}${own}`, String(choices), String(factor), priority, overflow, scope];
}

function legend(report: Report, shown: readonly ReportRow[], { sort, dim }: TableOptions): string[] {
  const {
    rows,
    sweep: { tried, refused },
  } = report;
  const count =
    shown.length === rows.length ? `${rows.length} rows` : `${shown.length} of ${rows.length} rows`;
  const front = rows.some(({ onFront }) => onFront) ? '* on the Pareto front of bits and MFLOP   ' : '';
  return [
    `${tried} combinations: ${refused} cannot be; the others decide in ${rows.length} ways.`,
    `${count}, sorted by ${sort.name} (${sort.about}).`,
    `${front}~ not causal   = compared with   ' the rule with another capacity than its own`,
    ...report.notes,
  ].map(dim);
}

/** Milliseconds by stage of the first rows: the median, and the 99th of 100 behind the slash. */
function drawStages(rows: readonly ReportRow[], { dim }: TableOptions): string[] {
  const lines = rows.map((row) => {
    const parts = STAGES.flatMap((stage) => {
      const own = row.times.stages[stage];
      return own ? [`${stage} ${own.p50.toFixed(2)}/${own.p99.toFixed(2)}`] : [];
    });
    return `  ${title(row)}: ${parts.join(', ')}`;
  });
  return [dim('ms by stage in one layer of a call (trunk: in the whole call), median/p99:'), ...lines];
}
