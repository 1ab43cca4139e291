import { title } from './compare.js';
import type { Report, ReportRow } from './report-schema.js';
import { colour, legend, Plot, stroke } from './svg.js';

/** Rows that the plots of single rows show at most. */
const MOST = 8;
/** Bits per byte above the best that the Pareto plot goes up to: beyond it a model says nothing any more. */
const REACH = 1.5;

export interface Figure {
  readonly heading: string;
  readonly text: string;
  readonly svg: string;
}

/** Every plot that the report has figures for. */
export function plotsOf(report: Report): Figure[] {
  return [paretoPlot(report), domainPlot(report), dropPlot(report), loadPlot(report)].flatMap((figure) =>
    figure ? [figure] : [],
  );
}

/** The baseline, then the best row of each other rule: by bits, or by drops where no model has read anything. */
function highlights({ rows }: Report): ReportRow[] {
  const rank = ({ quality, drops }: ReportRow) => quality?.bitsPerByte ?? drops.dropRate;
  const best = new Map<string, ReportRow>();
  for (const row of rows.toSorted((a, b) => rank(a) - rank(b)))
    if (!best.has(row.name)) best.set(row.name, row);
  const own = rows.filter(({ baseline }) => baseline);
  return [...own, ...[...best.values()].filter(({ name }) => name !== own[0]?.name)].slice(0, MOST);
}

function paretoPlot({ rows, causal }: Report): Figure | undefined {
  const points = rows
    .flatMap((row) =>
      row.quality && row.cost
        ? [{ row, bits: row.quality.bitsPerByte, cost: row.cost.flopsPerToken / 1e6 }]
        : [],
    )
    .toSorted((a, b) => Number(a.row.onFront) - Number(b.row.onFront));
  if (points.length === 0) return undefined;
  const best = Math.min(...points.map(({ bits }) => bits));
  const seen = points.filter(({ bits }) => bits <= best + REACH);
  const worst = Math.max(...seen.map(({ bits }) => bits));
  const room = (worst - best) / 20;
  const plot = new Plot(
    {
      label: 'million expert operations for each token',
      from: 0,
      to: 1.05 * Math.max(...seen.map(({ cost }) => cost)),
    },
    { label: 'bits per byte', from: best - room, to: worst + room },
  );
  const front = seen.filter(({ row }) => row.onFront).toSorted((a, b) => a.cost - b.cost);
  plot.line(
    front.map(({ cost, bits }) => [cost, bits]),
    stroke(0),
  );
  for (const { row, bits, cost } of seen) plot.dot(cost, bits, pointStyle(row, bits));
  const beyond = points.length - seen.length;
  return {
    heading: 'Quality and cost',
    text: `Filled: on the Pareto front${causal ? ' of the causal rules' : ''}. Hollow and orange: not causal. Green: what the others are compared with. Grey: all others.${beyond > 0 ? ` ${beyond} rows with more than ${REACH} bits above the best are not drawn.` : ''}`,
    svg: plot.draw('Bits per byte against expert operations, with the Pareto front'),
  };
}

function pointStyle(row: ReportRow, bits: number): Record<string, string> {
  const kind = row.baseline ? 'baseline' : row.onFront ? 'front' : row.causal ? 'other' : 'acausal';
  const r = kind === 'other' || kind === 'acausal' ? '3' : '5';
  return { r, class: kind, title: `${title(row)}: ${bits.toFixed(4)} bits` };
}

/** One row of dots for each domain. */
function domainPlot(report: Report): Figure | undefined {
  const rows = highlights(report).filter(({ quality }) => quality);
  const [first] = rows;
  if (!first?.quality) return undefined;
  const domains = Object.keys(first.quality.domains);
  const values = rows.flatMap(({ quality }) => domains.map((domain) => quality!.domains[domain]!.change));
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const room = (high - low) / 20;
  const ticks = domains.map((domain, value) => ({ value, text: domain.slice(0, 9) }));
  const plot = new Plot(
    { label: 'bits per byte above the trained rule', from: low - room, to: high + room },
    { label: '', from: -0.6, to: domains.length - 0.4, ticks },
  );
  for (const [i, row] of rows.entries()) {
    // Dots of equal value side by side.
    const shift = (i - (rows.length - 1) / 2) * 0.07;
    for (const [d, domain] of domains.entries()) {
      const { bitsPerByte, change } = row.quality!.domains[domain]!;
      const about = `${title(row)}, ${domain}: ${bitsPerByte.toFixed(4)} bits`;
      plot.dot(change, d + shift, { r: '4', fill: colour(i), title: about });
    }
  }
  return {
    heading: 'Quality by domain',
    text: 'The best row of each of the best rules. Titles of the dots have the bits per byte themselves.',
    svg: plot.draw('Change of the bits per byte of each domain under some rules') + legend(rows.map(title)),
  };
}

/** A line for each rule whose capacity was swept, in the order and scope that most of them have. */
function dropPlot(report: Report): Figure | undefined {
  const swept = report.rows.filter(
    ({ factor, overflow }) => typeof factor === 'number' && overflow !== 'next-best',
  );
  const lines = [...new Set(swept.map(({ name }) => name))]
    .map((name) => plainest(swept.filter((row) => row.name === name)))
    .filter((rows) => rows.length > 1)
    .slice(0, 2 * MOST);
  if (lines.length === 0) return undefined;
  const all = lines.flat();
  const factors = [...new Set(all.map(({ factor }) => factor as number))].toSorted((a, b) => a - b);
  const plot = new Plot(
    {
      label: 'capacity factor',
      from: factors[0]!,
      to: factors.at(-1)!,
      ticks: factors.map((value) => ({ value, text: String(value) })),
    },
    {
      label: 'share of the assignments dropped by capacity',
      from: 0,
      to: Math.max(0.01, ...all.map(dropShare)),
    },
  );
  for (const [i, rows] of lines.entries()) {
    plot.line(
      rows.map((row) => [row.factor as number, dropShare(row)]),
      stroke(i),
    );
    for (const row of rows) {
      const about = `${title(row)}: ${(100 * dropShare(row)).toFixed(2)} %`;
      plot.dot(row.factor as number, dropShare(row), { r: '3', fill: colour(i), title: about });
    }
  }
  return {
    heading: 'Drops by capacity factor',
    text: 'First come, first served, overflow dropped; scope request where the rule has it.',
    svg: plot.draw('Share of dropped assignments by capacity factor') + legend(lines.map(lineName)),
  };
}

function dropShare({ drops }: ReportRow): number {
  return (drops.dropped.capacity ?? 0) / Math.max(1, drops.chosen);
}

function lineName([first]: readonly ReportRow[]): string {
  const { name, scope, choices } = first!;
  return `${name}, k = ${choices}, ${scope}`;
}

/** Rows that differ in the factor alone: token-major where there is, in the first scope that has most of them. */
function plainest(rows: readonly ReportRow[]): ReportRow[] {
  const plain = rows.filter(({ priority }) => priority === 'token-major');
  const scopes = ['request', 'sequence', 'call'].map((scope) => plain.filter((row) => row.scope === scope));
  const most = scopes.toSorted((a, b) => b.length - a.length)[0]!;
  const byFactor = new Map(most.map((row) => [row.factor, row]));
  return [...byFactor.values()].toSorted((a, b) => (a.factor as number) - (b.factor as number));
}

/** Experts from the fullest to the emptiest, each layer for itself, meaned over the layers. */
function loadPlot(report: Report): Figure | undefined {
  const rows = highlights(report);
  const curves = rows.map(rankedLoad);
  const experts = Math.max(...curves.map(({ length }) => length));
  const top = Math.max(1, ...curves.flat());
  const plot = new Plot(
    { label: 'experts, the fullest first', from: 1, to: experts },
    { label: 'load over mean', from: 0, to: 1.05 * top },
  );
  for (const [i, curve] of curves.entries())
    plot.line(
      curve.map((load, e) => [e + 1, load]),
      stroke(i),
    );
  return {
    heading: 'Load curves',
    text: 'Assignments of each expert before drops, over the mean; 1 everywhere is even. Moved ones count where they went.',
    svg: plot.draw('Load of the experts over the mean, the fullest first') + legend(rows.map(title)),
  };
}

function rankedLoad({ layers }: ReportRow): number[] {
  const ranked = layers.map(({ load }) => {
    const mean = load.reduce((sum, value) => sum + value, 0) / load.length;
    return load.map((value) => (mean === 0 ? 0 : value / mean)).toSorted((a, b) => b - a);
  });
  return ranked[0]!.map((_, e) => ranked.reduce((sum, load) => sum + (load[e] ?? 0), 0) / ranked.length);
}
