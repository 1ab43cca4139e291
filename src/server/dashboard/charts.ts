import { isDark, lineColour, lineDash } from './colours.js';
import { h, setText } from './dom.js';
import { count, fixed } from './format.js';
import type { History, Measure } from './history.js';
import uPlot from './uplot.js';

const HEIGHT = 148;
/** The time shown grows with what there is to show. */
const LEAST_SECONDS = 60;
const MOST_SECONDS = 300;
const SYNC = 'time';

export interface ChartSpec {
  readonly title: string;
  /** What the numbers mean, in a few words. */
  readonly note: string;
  readonly unit: string;
  readonly digits: number;
  /** A measure of each layer, or the tokens of all. */
  readonly of: Measure | 'tokens';
  /** The least height of the scale, so that noise near zero does not fill the chart. */
  readonly atLeast: number;
  /** Where the scale begins, if not at zero. */
  readonly from?: number;
}

/** One measure over the last minutes, one line for each layer. */
export class Chart {
  readonly element: HTMLElement;
  readonly #plotBox = h('div', { class: 'plot', role: 'img' });
  readonly #value = h('span', { class: 'value' });
  #plot: uPlot | undefined;
  #names: readonly string[] = [];
  #hidden: ReadonlySet<number> = new Set();

  constructor(
    readonly spec: ChartSpec,
    readonly history: History,
  ) {
    const title = h('h3', {}, spec.title, ' ', h('small', {}, spec.note));
    this.element = h('figure', { class: 'chart' }, h('figcaption', {}, title, this.#value), this.#plotBox);
    new ResizeObserver(() => this.#fit()).observe(this.#plotBox);
  }

  /** Builds the plot for these layers, in the colours of now. */
  build(names: readonly string[], hidden: ReadonlySet<number>): void {
    this.#names = names;
    this.#hidden = hidden;
    this.#plot?.destroy();
    this.#plot = undefined;
    if (this.#plotBox.clientWidth > 0) {
      this.#plot = new uPlot(this.#options(this.#plotBox.clientWidth), this.#data(), this.#plotBox);
    }
    this.refresh();
  }

  refresh(): void {
    if (this.#plotBox.clientWidth > 0 && !this.#plot && this.#names.length > 0) {
      this.build(this.#names, this.#hidden);
      return;
    }
    const data = this.#data();
    this.#plot?.setData(data);
    const last = data[0].length - 1;
    this.#read(last);
    this.#plotBox.setAttribute(
      'aria-label',
      `${this.spec.title} over the last minutes; now ${this.#text(last)}`,
    );
  }

  #data(): uPlot.AlignedData {
    const { of } = this.spec;
    const lines =
      of === 'tokens'
        ? [this.history.tokens()]
        : this.#names.map((_, layer) => this.history.measure(of, layer));
    return [this.history.times(), ...lines];
  }

  #read(index: number | null | undefined): void {
    const last = this.history.size - 1;
    setText(this.#value, this.#text(this.#plot?.cursor.idx ?? index ?? last));
  }

  /** The values at a point: of the tokens, or the range over the layers. */
  #text(index: number): string {
    const { digits, unit } = this.spec;
    const lines = this.#data().slice(1);
    const shown = lines.filter((_, i) => lines.length === 1 || !this.#hidden.has(i));
    const values = shown.map((line) => line[index] ?? null).filter((value) => value !== null);
    if (values.length === 0) return '\u2013';
    const [low, high] = [Math.min(...values), Math.max(...values)];
    const range = fixed(low, digits) === fixed(high, digits) ? [high] : [low, high];
    return `${range.map((value) => this.#number(value)).join(' \u2013 ')}${unit}`;
  }

  #number(value: number): string {
    const { digits } = this.spec;
    return digits === 0 ? count(value) : fixed(value, digits);
  }

  #fit(): void {
    const width = this.#plotBox.clientWidth;
    if (!this.#plot) this.refresh();
    else if (width > 0) this.#plot.setSize({ width, height: HEIGHT });
  }

  #options(width: number): uPlot.Options {
    const { spec } = this;
    return {
      width,
      height: HEIGHT,
      padding: [8, 14, 0, 0],
      legend: { show: false },
      cursor: { sync: { key: SYNC }, points: { size: 5 }, drag: { x: false, y: false }, y: false },
      hooks: { setCursor: [(plot) => this.#read(plot.cursor.idx)] },
      scales: {
        x: { time: true, range: (_plot, low, high) => [high - spanOf(low, high), high] },
        y: {
          range: (_plot, _low, high) => [spec.from ?? 0, Math.max(high ?? 0, spec.atLeast) * 1.05],
        },
      },
      axes: [timeAxis(), valueAxis(spec.digits)],
      series: [{}, ...this.#series()],
    };
  }

  #series(): uPlot.Series[] {
    if (this.spec.of === 'tokens') {
      const stroke = ink('--accent');
      return [{ label: 'tokens', stroke, width: 1.5, fill: ink('--accent-soft'), points: { show: false } }];
    }
    return this.#names.map((label, layer) => ({
      label,
      show: !this.#hidden.has(layer),
      stroke: lineColour(layer, this.#names.length),
      width: 1.5,
      dash: lineDash(layer),
      points: { show: false },
    }));
  }
}

const ink = (property: string) =>
  getComputedStyle(document.documentElement).getPropertyValue(property).trim();

function axis(): uPlot.Axis {
  const grid = isDark() ? '#262c35' : '#eaedf1';
  return {
    stroke: ink('--muted'),
    font: '11px system-ui, sans-serif',
    grid: { stroke: grid, width: 1 },
    ticks: { show: false },
  };
}

function spanOf(low: number | null, high: number): number {
  return Math.min(MOST_SECONDS, Math.max(LEAST_SECONDS, high - (low ?? high)));
}

/** How long ago. */
function timeAxis(): uPlot.Axis {
  const steps = ({ scales }: uPlot) => {
    const [low, high] = [scales.x!.min ?? 0, scales.x!.max ?? 0];
    const step = high - low <= 90 ? 15 : high - low <= 180 ? 30 : 60;
    return { high, step, ticks: Math.floor((high - low) / step + 0.01) };
  };
  return {
    ...axis(),
    size: 24,
    gap: 4,
    splits: (plot) => {
      const { high, step, ticks } = steps(plot);
      return Array.from({ length: ticks + 1 }, (_, i) => high - (ticks - i) * step);
    },
    values: (plot, splits) => splits.map((at) => ago(steps(plot).high - at)),
  };
}

function ago(seconds: number): string {
  const whole = Math.round(seconds);
  if (whole === 0) return 'now';
  return whole % 60 === 0 ? `\u2212${whole / 60} min` : `\u2212${whole} s`;
}

function valueAxis(digits: number): uPlot.Axis {
  return {
    ...axis(),
    size: 42,
    gap: 4,
    space: 34,
    values: (_plot, splits) => {
      const places = splits.every(Number.isInteger) ? 0 : Math.max(1, digits);
      return splits.map((value) => (places === 0 ? count(value) : fixed(value, places)));
    },
  };
}
