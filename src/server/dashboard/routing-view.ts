import { type LayerReport, type RoutingReport, WINDOWS, type WindowName, type WindowReport } from './api.js';
import { Chart, type ChartSpec } from './charts.js';
import { lineColour, onSchemeChange } from './colours.js';
import { segmented } from './controls.js';
import { h, replace } from './dom.js';
import { count, fixed, percent } from './format.js';
import { type Counted, HeatMap } from './heat-map.js';
import { History } from './history.js';

const CHARTS: readonly ChartSpec[] = [
  { title: 'Imbalance', note: 'MaxVio; 0 when balanced', of: 'maxVio', unit: '', digits: 2, atLeast: 1 },
  { title: 'Dropped', note: 'share of the choices', of: 'dropRate', unit: '\u202F%', digits: 1, atLeast: 2 },
  {
    title: 'Balance loss',
    note: 'switch; 1 when balanced',
    of: 'balance',
    unit: '',
    digits: 2,
    atLeast: 1.5,
    from: 0.9,
  },
  {
    title: 'Throughput',
    note: 'tokens through the layers, each second',
    of: 'tokens',
    unit: ' tokens/s',
    digits: 0,
    atLeast: 20,
  },
];

const WINDOW_NAMES: readonly (readonly [WindowName, string])[] = [
  ['1s', 'now'],
  ...WINDOWS.slice(1).map((name) => [name, name.replace('s', '\u202Fs')] as const),
  ['total', 'total'],
];

const COUNTED: readonly (readonly [Counted, string])[] = [
  ['load', 'chosen'],
  ['kept', 'kept'],
];

/** Who gets how much: the heat map, the figures of each layer, and both over time. */
export class RoutingView {
  readonly #history = new History();
  readonly #heat = new HeatMap();
  readonly #charts = CHARTS.map((spec) => new Chart(spec, this.#history));
  readonly #loads = h('div', { class: 'heat-and-figures' });
  readonly #figures = h('tbody');
  readonly #legend = h('ul', { class: 'legend lines', 'aria-label': 'Layers in the charts' });
  readonly #hidden = new Set<number>();
  readonly #empty = h('p', { class: 'empty' });
  #window: WindowName = '1s';
  #counted: Counted = 'load';
  #report: RoutingReport | undefined;
  #names = '';

  constructor(readonly root: HTMLElement) {
    onSchemeChange(() => this.#rebuild());
  }

  take(report: RoutingReport): void {
    if (!this.#report) this.#build();
    this.#report = report;
    this.#history.push(report);
    const names = report.layers.map(({ name }) => name).join();
    if (names !== this.#names) {
      this.#names = names;
      this.#rebuild();
    }
    if (!this.root.hidden) this.shown();
  }

  /** Draws what has come; while the view is hidden nothing is drawn. */
  shown(): void {
    if (!this.#report) return;
    this.#render();
    for (const chart of this.#charts) chart.refresh();
  }

  #build(): void {
    const head = ['Layer', 'Tokens', 'Dropped', 'MaxVio', 'Balance loss', 'Dead'];
    const table = h(
      'table',
      { class: 'figures' },
      h('caption', { class: 'aloud' }, 'Figures of each layer'),
      h('thead', {}, h('tr', {}, ...head.map((text) => h('th', { scope: 'col' }, text)))),
      this.#figures,
    );
    replace(this.#loads, this.#heat.element, h('div', { class: 'scroll' }, table));
    const loads = h('h2', {}, 'Load by layer and expert');
    const time = h('h2', {}, 'Over time ', h('small', {}, 'each point: the 10 seconds before it'));
    const charts = h('div', { class: 'charts' }, ...this.#charts.map(({ element }) => element));
    replace(
      this.root,
      h(
        'div',
        { class: 'card' },
        h('div', { class: 'card-head' }, loads, ...this.#choices()),
        this.#empty,
        this.#loads,
      ),
      h('div', { class: 'card' }, h('div', { class: 'card-head' }, time, this.#legend), charts),
    );
  }

  /** Over which time, and what is counted. */
  #choices(): HTMLElement[] {
    const span = segmented('Over', WINDOW_NAMES, (value) => {
      this.#window = value;
      this.#render();
    });
    const counted = segmented('Count', COUNTED, (value) => {
      this.#counted = value;
      this.#render();
    });
    return [span, counted];
  }

  #render(): void {
    const { layers } = this.#report!;
    const reports = layers.map((layer) => windowOf(layer, this.#window));
    this.#heat.show(layers, reports, this.#counted);
    replace(this.#figures, ...layers.map((layer, i) => figureRow(layer, reports[i]!)));
    const idle = reports.every(({ tokens }) => tokens === 0);
    const never = layers.every(({ total }) => total.tokens === 0);
    this.#empty.hidden = !idle;
    this.#empty.textContent = never
      ? 'No token has passed yet. Route a text in the playground, or send a request to /v1/completions.'
      : 'No token passed in this time. A longer one, or total, shows earlier loads.';
  }

  #rebuild(): void {
    const names = this.#report?.layers.map(({ name }) => name) ?? [];
    if (names.length === 0) return;
    this.#loads.classList.toggle('many', names.length > 10);
    this.#loads.classList.toggle(
      'broad',
      this.#report!.layers.some(({ experts }) => experts > 32),
    );
    replace(this.#legend, ...names.map((name, layer) => this.#legendEntry(name, layer, names.length)));
    for (const chart of this.#charts) chart.build(names, this.#hidden);
    this.#render();
  }

  #legendEntry(name: string, layer: number, layers: number): HTMLElement {
    const button = h(
      'button',
      {
        type: 'button',
        'aria-pressed': String(!this.#hidden.has(layer)),
        on: {
          click: () => {
            if (!this.#hidden.delete(layer)) this.#hidden.add(layer);
            button.setAttribute('aria-pressed', String(!this.#hidden.has(layer)));
            for (const chart of this.#charts)
              chart.build(
                this.#report!.layers.map((each) => each.name),
                this.#hidden,
              );
          },
        },
      },
      h('span', { class: `line dash-${layer % 4}`, style: { '--line': lineColour(layer, layers) } }),
      name,
    );
    return h('li', {}, button);
  }
}

function windowOf(layer: LayerReport, name: WindowName): WindowReport {
  return name === 'total' ? layer.total : layer.windows[name];
}

function figureRow({ name }: LayerReport, report: WindowReport): HTMLTableRowElement {
  const { tokens, dropRate, imbalance, losses } = report;
  const figure = (text: string, warn = false) =>
    h('td', warn ? { class: 'warn' } : {}, tokens > 0 ? text : '\u2013');
  return h(
    'tr',
    {},
    h('th', { scope: 'row' }, name),
    h('td', {}, count(tokens)),
    figure(percent(dropRate)),
    figure(fixed(imbalance.maxVio, 2)),
    figure(fixed(losses.switch, 2)),
    figure(count(imbalance.dead ?? 0), (imbalance.dead ?? 0) > 0),
  );
}
