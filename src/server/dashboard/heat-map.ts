import type { LayerReport, WindowReport } from './api.js';
import { rampGradient, sequential } from './colours.js';
import { h, setText } from './dom.js';
import { count, fixed, percent } from './format.js';
import { Roving } from './roving.js';

/** Narrower cells than this have no room for a number. */
const NUMBER_PX = 34;
/** Longer names of layers are cut. */
const NAME_CHARACTERS = 16;

export type Counted = 'load' | 'kept';

interface Cell {
  readonly element: HTMLElement;
  readonly layer: number;
  readonly expert: number;
}

/**
 * Layers by experts. The colour is the load over the mean of its layer, because that is what balance means: 1 is a fair
 * share, whatever the number of experts. The number is the share in percent.
 */
export class HeatMap {
  readonly element = h('div', { class: 'heat' });
  readonly #grid = h('div', {
    class: 'heat-grid',
    role: 'grid',
    'aria-label': 'Load of each expert in each layer',
  });
  readonly #bar = h('span', { class: 'ramp' });
  readonly #top = h('span');
  readonly #readout = h('p', { class: 'readout' });
  readonly #roving: Roving;
  #cells: Cell[] = [];
  #shape = '';
  #experts = 0;
  #scale = 2;
  #pointed: Cell | undefined;
  #show: { layers: readonly LayerReport[]; reports: readonly WindowReport[]; counted: Counted } | undefined;

  constructor() {
    const scroll = h('div', { class: 'scroll' }, this.#grid);
    const scale = h(
      'p',
      { class: 'scale' },
      h('span', {}, '0'),
      this.#bar,
      this.#top,
      h('span', {}, 'load \u00f7 mean of the layer'),
    );
    this.element.append(scroll, h('div', { class: 'heat-foot' }, scale, this.#readout));
    this.#roving = new Roving(this.#grid, {
      items: () => this.#cells.map(({ element }) => element),
      columns: () => this.#experts,
    });
    for (const type of ['focusin', 'pointerover'] as const) {
      this.#grid.addEventListener(type, (event) => this.#point(event.target));
    }
    this.#grid.addEventListener('pointerleave', () => this.#point(document.activeElement));
    new ResizeObserver(() => this.#fit()).observe(this.#grid);
  }

  show(layers: readonly LayerReport[], reports: readonly WindowReport[], counted: Counted): void {
    this.#show = { layers, reports, counted };
    this.#build(layers);
    const ratios = reports.map((report) => ratiosOf(report[counted]));
    const highest = Math.max(...ratios.flat());
    this.#scale = 2 ** Math.max(1, Math.ceil(Math.log2(Math.max(highest, 1) * 0.98)));
    setText(this.#top, `${this.#scale}`);
    this.#bar.style.background = rampGradient();
    for (const cell of this.#cells) this.#paint(cell, ratios[cell.layer]![cell.expert]!);
    this.#read();
  }

  #paint({ element, layer, expert }: Cell, ratio: number): void {
    const { reports, counted } = this.#show!;
    const values = reports[layer]![counted];
    const sum = values.reduce((all, value) => all + value, 0);
    const share = sum === 0 ? 0 : values[expert]! / sum;
    const { fill, ink } = sequential(sum === 0 ? 0 : ratio / this.#scale);
    element.classList.toggle('idle', sum === 0);
    element.style.setProperty('--fill', sum === 0 ? 'transparent' : fill);
    element.style.setProperty('--ink', sum === 0 ? 'var(--muted)' : ink);
    element.dataset.load = String(reports[layer]!.load[expert]);
    setText(element.firstElementChild!, sum === 0 ? '\u00b7' : fixed(share * 100, share >= 0.1 ? 0 : 1));
    element.setAttribute('aria-label', this.#describe(layer, expert));
  }

  #describe(layer: number, expert: number): string {
    const { layers, reports } = this.#show!;
    const { load, kept } = reports[layer]!;
    const sum = load.reduce((all, value) => all + value, 0);
    const [chosen, taken] = [load[expert]!, kept[expert]!];
    const place = `${layers[layer]!.name}, expert ${expert}: `;
    if (sum === 0) return `${place}nothing yet`;
    const ratio = fixed((chosen * load.length) / sum, 2);
    return `${place}${count(chosen)} chosen (${percent(chosen / sum)}, ${ratio} \u00d7 mean), ${count(chosen - taken)} dropped`;
  }

  #point(target: EventTarget | null): void {
    this.#pointed = this.#cells.find(
      ({ element }) => element === target || element.firstElementChild === target,
    );
    this.#read();
  }

  #read(): void {
    const cell = this.#pointed;
    const hint = this.#grid.classList.contains('numbers')
      ? 'Cells show the share of the load in percent.'
      : 'Choose a cell to see its numbers.';
    setText(this.#readout, cell ? this.#describe(cell.layer, cell.expert) : hint);
  }

  #build(layers: readonly LayerReport[]): void {
    const shape = layers.map(({ name, experts }) => `${name}:${experts}`).join();
    if (shape === this.#shape) return;
    this.#shape = shape;
    this.#experts = Math.max(...layers.map(({ experts }) => experts));
    const longest = Math.max(6, ...layers.map(({ name }) => name.length));
    this.#grid.style.setProperty('--experts', String(this.#experts));
    this.#grid.style.setProperty('--name', `${Math.min(longest, NAME_CHARACTERS)}ch`);
    const numbers = Array.from({ length: this.#experts }, (_, expert) =>
      h('span', { role: 'columnheader', 'aria-label': `expert ${expert}` }, expert),
    );
    const head = h(
      'div',
      { class: 'heat-row head', role: 'row' },
      h('span', { role: 'columnheader' }, 'Expert'),
      ...numbers,
    );
    this.#cells = [];
    const rows = layers.map(({ name, experts }, layer) => {
      const cells = Array.from({ length: experts }, (_, expert) => this.#cell(layer, expert));
      return h('div', { class: 'heat-row', role: 'row' }, h('span', { role: 'rowheader' }, name), ...cells);
    });
    this.#grid.replaceChildren(head, ...rows);
    this.#roving.reset();
    this.#fit();
  }

  #cell(layer: number, expert: number): HTMLElement {
    const element = h('span', { class: 'cell', role: 'gridcell', tabindex: -1 }, h('span'));
    this.#cells.push({ element, layer, expert });
    return element;
  }

  #fit(): void {
    const width = this.#cells[0]?.element.clientWidth ?? 0;
    if (width === 0) return;
    this.#grid.classList.toggle('numbers', width >= NUMBER_PX);
    const step = width >= 20 ? 1 : width >= 12 ? 4 : 8;
    [...this.#grid.querySelectorAll('[role=columnheader]')].slice(1).forEach((header, expert) => {
      header.classList.toggle('unsaid', expert % step !== 0);
    });
    this.#read();
  }
}

/** [E] load over the mean; zeros where there is none. */
function ratiosOf(values: readonly number[]): number[] {
  const sum = values.reduce((all, value) => all + value, 0);
  return values.map((value) => (sum === 0 ? 0 : (value * values.length) / sum));
}
