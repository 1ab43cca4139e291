import type { CaseFigures, ContenderFigures, ShapeFigures } from './report-schema.js';
import { weightsText } from './shapes.js';

export interface TableStyle {
  bold(text: string): string;
  dim(text: string): string;
}

/** One table for each load: a line for each T, and with every time its ratio to the limit and to the fused operator. */
export function drawShape(
  { shape, asked, machine, notes, weightBytes, cases }: ShapeFigures,
  style: TableStyle,
): string {
  const { name, experts, k, hidden, inner, activation } = shape;
  const title = `${name === undefined ? '' : `${name}: `}${experts} experts${asked ? ` of ${asked.experts}` : ''}, k ${k}, ${hidden} x ${inner}, ${weightsText(shape)} ${activation}`;
  const { bandwidthGBs, peakGflops } = machine;
  const about = [
    `${(weightBytes / 2 ** 20).toFixed(0)} MiB of weights; memory ${bandwidthGBs.one.toFixed(0)} GB/s one core, ${bandwidthGBs.all.toFixed(0)} all; peak ${peakGflops.one.toFixed(0)} and ${peakGflops.all.toFixed(0)} GFLOP/s`,
    ...notes,
    ...new Set(cases.flatMap((figures) => figures.notes.map((note) => `T = ${figures.tokens}: ${note}`))),
  ];
  const loads = [...new Set(cases.map(({ load }) => load))];
  const tables = loads.map((load) =>
    drawLoad(
      load,
      cases.filter((figures) => figures.load === load),
      style,
    ),
  );
  return [style.bold(title), ...about.map(style.dim), ...tables].join('\n');
}

function drawLoad(load: string, cases: readonly CaseFigures[], { bold }: TableStyle): string {
  const names = [...new Set(cases.flatMap(({ contenders }) => contenders.map(({ name }) => name)))];
  const least = LEAST.filter(([, key]) => cases.some((figures) => figures[key]));
  const head = [
    load,
    'T',
    'experts',
    'most rows',
    'limit L',
    'one lane',
    ...least.map(([title]) => title),
    ...names,
  ];
  const body = cases.map((figures) => [
    '',
    String(figures.tokens),
    String(figures.rows.length),
    String(figures.rows[0] ?? 0),
    `${ms(figures.limit.medianMs)} ${ratio(figures.limit.ofFloor)} floor`,
    `${ms(figures.limitOneLane.medianMs)} ${ratio(figures.limitOneLane.ofFloor)} floor`,
    ...least.map(([, key]) => leastCell(figures[key])),
    ...names.map((name) => cell(figures.contenders.find((contender) => contender.name === name))),
  ]);
  const widths = head.map((text, i) => Math.max(text.length, ...body.map((line) => line[i]!.length)));
  const line = (cells: readonly string[]) =>
    cells.map((text, i) => (i === 0 ? text.padEnd(widths[i]!) : text.padStart(widths[i]!))).join('  ');
  return [bold(line(head)), ...body.map(line)].join('\n');
}

/** The least layer, by the title of its column. */
const LEAST = [
  ['least', 'least'],
  ['in processes', 'leastProcesses'],
] as const;

function leastCell(least: CaseFigures['least']): string {
  return least ? `${ms(least.medianMs)} ${ratio(least.ofLimit)}L` : '-';
}

/** `5.21 0.97L 1.40x`: milliseconds, share of the limit, times as fast as the fused operator; `+3%` for what is around the experts. */
function cell(figures: ContenderFigures | undefined): string {
  if (!figures) return '-';
  const { medianMs, ofLimit, toFused, aroundExperts } = figures;
  const around = aroundExperts === undefined ? '' : ` ${(100 * aroundExperts).toFixed(0)}%`;
  return `${ms(medianMs)} ${ratio(ofLimit)}L${toFused === null ? '' : ` ${ratio(toFused)}x`}${around}`;
}

function ms(value: number): string {
  return value >= 100 ? value.toFixed(0) : value.toFixed(value >= 10 ? 1 : 2);
}

function ratio(value: number): string {
  return value.toFixed(2);
}

export const LEGEND = [
  'Each time in ms is a median. L: the same expert calls with nothing around them. 0.97L: L is 0.97 of this time. 1.40x: 1.40 times as fast as the fused operator.',
  'least: what every layer does, made by hand on threads, and in processes: the gate, the rule, the same calls with their rows gathered and outputs given back, and their sum.',
  '3%: gate, routing, gathering and combining, of the call. floor: the bytes at the bandwidth, or the operations at the peak, divided by the time.',
];
