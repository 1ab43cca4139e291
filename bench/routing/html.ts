import { COLUMNS, type Column, sortRows } from './columns.js';
import { title } from './compare.js';
import { plotsOf } from './plots.js';
import type { Report, ReportRow } from './report-schema.js';
import { STAGES } from './source.js';
import { escapeText } from './svg.js';

/** Neither scripts nor anything from elsewhere: the browser itself refuses them. */
const POLICY = "default-src 'none'; style-src 'unsafe-inline'";

const STYLE = `
:root { color-scheme: light dark; --ink: #1b1b1b; --ground: #fff; --line: #d8d8d8; --soft: #595959; }
@media (prefers-color-scheme: dark) { :root { --ink: #e8e8e8; --ground: #161616; --line: #3a3a3a; --soft: #a8a8a8; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--ground); margin: 2rem auto; max-width: 84rem; padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin: 2rem 0 0.3rem; }
.plots { display: grid; grid-template-columns: repeat(auto-fit, minmax(30rem, 1fr)); gap: 1rem 2rem; }
section > svg { width: 100%; height: auto; } svg text { font-size: 11px; fill: var(--soft); }
svg .grid { stroke: var(--line); } svg .other { fill: var(--soft); fill-opacity: 0.35; }
svg .acausal { fill: none; stroke: #d55e00; stroke-opacity: 0.6; } svg .front { fill: #0072b2; } svg .baseline { fill: #009e73; }
.legend { list-style: none; padding: 0; display: flex; flex-wrap: wrap; gap: 0.1rem 1.2rem; font-size: 0.85rem; }
.about, dt { color: var(--soft); } dl { display: grid; grid-template-columns: max-content 1fr; gap: 0 1rem; } dd { margin: 0; overflow-wrap: anywhere; }
.wide { overflow-x: auto; } table { border-collapse: collapse; font-size: 0.8rem; font-variant-numeric: tabular-nums; }
th, td { padding: 0.1rem 0.5rem; text-align: right; border-bottom: 1px solid var(--line); white-space: nowrap; }
th:nth-child(-n+7), td:nth-child(-n+7) { text-align: left; } tr.front { font-weight: 600; }
`;

/** One page with everything in it: plots, figures of every row by one column, and what they were measured on. */
export function drawHtml(report: Report, sort: Column): string {
  const plots = plotsOf(report).map(
    ({ heading, text, svg }) =>
      `<section><h2>${escapeText(heading)}</h2><p class="about">${escapeText(text)}</p>${svg}</section>`,
  );
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="${POLICY}">
<meta name="viewport" content="width=device-width">
<title>turnout bench routing</title>
<style>${STYLE}</style>
</head>
<body>
<h1>Routing rules side by side</h1>
${report.notes.map((note) => `<p>${escapeText(note)}</p>`).join('\n')}
<div class="plots">
${plots.join('\n')}
</div>
${drawRows(report, sort)}
${drawStages(report)}
${drawSettings(report)}
</body>
</html>
`;
}

const WORDS = ['', 'rule', 'k', 'factor', 'priority', 'overflow', 'scope'];

function drawRows(report: Report, sort: Column): string {
  const columns = COLUMNS.filter((column) => report.rows.some((row) => column.value(row) != null));
  const head = [
    ...WORDS.map((word) => `<th>${word}</th>`),
    ...columns.map(({ name, about }) => `<th title="${escapeText(about)}">${escapeText(name)}</th>`),
  ];
  const body = sortRows(report.rows, sort).map((row) => {
    const values = columns.map((column) => {
      const value = column.value(row);
      return value == null ? '' : column.show(value);
    });
    const cells = [...words(row), ...values].map((text) => `<td>${escapeText(text)}</td>`);
    return `<tr${row.onFront ? ' class="front"' : ''}>${cells.join('')}</tr>`;
  });
  const marks =
    "* on the Pareto front, ~ not causal, = what others are compared with, ' the rule with another capacity than its own";
  return `<h2>${report.rows.length} rows by ${escapeText(sort.name)}</h2>
<p class="about">${escapeText(marks)}. ${escapeText(columns.map(({ name, about }) => `${name}: ${about}`).join('; '))}.</p>
<div class="wide"><table><thead><tr>${head.join('')}</tr></thead><tbody>
${body.join('\n')}
</tbody></table></div>`;
}

function words(row: ReportRow): string[] {
  const { name, capacity, choices, factor, priority, overflow, scope, onFront, causal, baseline } = row;
  const marks = `${onFront ? '*' : ''}${causal ? '' : '~'}${baseline ? '=' : ''}`;
  return [
    marks,
    capacity === 'own' ? name : `${name}'`,
    String(choices),
    String(factor),
    priority,
    overflow,
    scope,
  ];
}

/** Milliseconds of the baseline and of the front. */
function drawStages({ rows }: Report): string {
  const chosen = rows.filter(({ baseline, onFront }) => baseline || onFront);
  const told = chosen.length > 0 ? chosen : rows.slice(0, 20);
  const stages = STAGES.filter((stage) => told.some(({ times }) => times.stages[stage]));
  const body = told.map((row) => {
    const cells = stages.map((stage) => {
      const own = row.times.stages[stage];
      return `<td>${own ? `${own.p50.toFixed(3)} / ${own.p99.toFixed(3)}` : ''}</td>`;
    });
    return `<tr><td>${escapeText(title(row))}</td>${cells.join('')}</tr>`;
  });
  return `<h2>Milliseconds by stage, median / 99th of 100</h2>
<p class="about">Of one layer in a call; trunk: of the whole call.</p>
<div class="wide"><table><thead><tr><th>rule</th>${stages.map((stage) => `<th>${stage}</th>`).join('')}</tr></thead><tbody>
${body.join('\n')}
</tbody></table></div>`;
}

function drawSettings({
  source,
  settings,
  hardware,
  versions,
  date,
  seconds,
  inputs,
  ...rest
}: Report): string {
  const load = `${rest.loadAverage.map((n) => n.toFixed(1)).join(' ')} before, ${rest.loadAverageAfter.map((n) => n.toFixed(1)).join(' ')} after`;
  const facts = { ...source, ...settings, ...hardware, ...versions, date, seconds: seconds.toFixed(1) };
  const entries = Object.entries({ ...facts, 'load average': load, 'inputs (SHA-256)': inputs });
  const list = entries.map(([name, value]) => {
    const text = typeof value === 'object' ? JSON.stringify(value) : String(value);
    return `<dt>${escapeText(name)}</dt><dd>${escapeText(text)}</dd>`;
  });
  return `<h2>Measured on</h2><dl>${list.join('')}</dl>`;
}
