import type { Trace } from './api.js';
import { h, meter } from './dom.js';
import { fixed, percent } from './format.js';

/** The experts of a token in words. */
export function choices(trace: Trace, token: number, layer: number): string {
  const experts = trace.experts[token]?.[layer] ?? [];
  const parts = experts.flatMap((expert, choice) => {
    if (expert < 0) return [];
    const why = trace.drops[token]?.[layer]?.[choice];
    return [`expert ${expert} (${why ? 'dropped' : fixed(trace.weights[token]?.[layer]?.[choice], 2)})`];
  });
  return parts.join(', ') || 'no expert';
}

type Row = readonly [label: string, a: string, b: string, difference: string];

/** The two rules in figures, for one layer. */
export function figuresOf(
  traces: readonly [a: Trace, b: Trace],
  layer: number,
  differs: readonly (readonly boolean[])[],
): HTMLTableElement {
  const anywhere = differs.filter((layers) => layers.includes(true)).length;
  const row = (label: string, digits: number, of: (trace: Trace) => number | null | undefined) =>
    rowOf(label, digits, traces.map(of));
  const rows: readonly Row[] = [
    row('Bits per byte', 3, (trace) => trace.bits_per_byte),
    row('Dropped, %', 1, ({ layers }) => layers[layer]!.dropRate * 100),
    row('MaxVio', 2, ({ layers }) => layers[layer]!.imbalance.maxVio),
    row('Balance loss', 2, ({ layers }) => layers[layer]!.losses.switch),
    row('Dead experts', 0, ({ layers }) => layers[layer]!.imbalance.dead),
    ['Tokens with other experts, any layer', '', '', percent(anywhere / Math.max(1, differs.length), 0)],
  ];
  const head = ['', 'A', 'B', 'B \u2212 A'].map((text) => h('th', { scope: 'col' }, text));
  return h(
    'table',
    { class: 'figures compare' },
    h('caption', { class: 'aloud' }, 'The two rules in figures'),
    h('thead', {}, h('tr', {}, ...head)),
    h('tbody', {}, ...rows.map(tableRow)),
  );
}

function rowOf(label: string, digits: number, [a, b]: readonly (number | null | undefined)[]): Row {
  const known = typeof a === 'number' && typeof b === 'number';
  const difference = known ? b - a : null;
  const sign = difference !== null && difference > 0 ? '+' : '';
  return [label, fixed(a, digits), fixed(b, digits), `${sign}${fixed(difference, digits)}`];
}

function tableRow([label, ...cells]: Row): HTMLTableRowElement {
  return h('tr', {}, h('th', { scope: 'row' }, label), ...cells.map((text) => h('td', {}, text)));
}

/** Where in the depth of the model the two rules part. */
export function differenceByLayer(
  { layers }: Trace,
  current: number,
  differs: readonly (readonly boolean[])[],
): HTMLElement {
  const entries = layers.map(({ name }, layer) => {
    const tokens = differs.filter((perLayer) => perLayer[layer]).length;
    const share = tokens / Math.max(1, differs.length);
    return h(
      'li',
      { class: layer === current ? 'current' : '' },
      h('span', {}, name),
      meter(share),
      h('span', { class: 'number' }, `${tokens} of ${differs.length}`),
    );
  });
  return h('div', {}, h('h3', {}, 'Tokens with other experts'), h('ul', { class: 'depth' }, ...entries));
}
