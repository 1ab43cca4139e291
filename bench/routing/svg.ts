/** Text -> text that is no markup, inside elements and attributes. */
export function escapeText(text: string): string {
  return text.replace(/[&<>"']/g, (mark) => `&#${mark.charCodeAt(0)};`);
}

/** Okabe and Ito's colours, which any colour vision tells apart; dark enough on white, light enough on black. */
const COLOURS = [
  '#0072b2',
  '#d55e00',
  '#009e73',
  '#cc79a7',
  '#e69f00',
  '#56b4e9',
  '#8c6bb1',
  '#7f7f7f',
] as const;

export function colour(index: number): string {
  return COLOURS[index % COLOURS.length]!;
}

/** Lines beyond the colours are dashed, so that no two look alike. */
export function stroke(index: number): string {
  const dash = index < COLOURS.length ? '' : ' stroke-dasharray="6 3"';
  return `stroke="${colour(index)}" stroke-width="2" fill="none"${dash}`;
}

export interface Axis {
  readonly label: string;
  readonly from: number;
  readonly to: number;
  /** At these values; round ones where left out. */
  readonly ticks?: readonly { readonly value: number; readonly text: string }[];
}

const SIZE = { width: 640, height: 360, left: 64, right: 16, top: 12, bottom: 48 } as const;

/** A plot of fixed size with two linear axes. */
export class Plot {
  readonly #x: Axis;
  readonly #y: Axis;
  readonly #marks: string[] = [];

  constructor(x: Axis, y: Axis) {
    this.#x = widened(x);
    this.#y = widened(y);
  }

  x(value: number): number {
    const { width, left, right } = SIZE;
    return left + share(this.#x, value) * (width - left - right);
  }

  y(value: number): number {
    const { height, top, bottom } = SIZE;
    return height - bottom - share(this.#y, value) * (height - top - bottom);
  }

  /** SVG elements, later ones on top. */
  add(...marks: readonly string[]): void {
    this.#marks.push(...marks);
  }

  line(points: readonly (readonly [number, number])[], style: string): void {
    const path = points.map(([x, y]) => `${at(this.x(x))},${at(this.y(y))}`).join(' ');
    this.add(`<polyline points="${path}" ${style}/>`);
  }

  dot(x: number, y: number, { title, ...attributes }: Readonly<Record<string, string>>): void {
    const list = Object.entries(attributes).map(([name, value]) => ` ${name}="${escapeText(value)}"`);
    const centre = `cx="${at(this.x(x))}" cy="${at(this.y(y))}"`;
    this.add(`<circle ${centre}${list.join('')}><title>${escapeText(title ?? '')}</title></circle>`);
  }

  draw(label: string): string {
    const { width, height } = SIZE;
    const box = `viewBox="0 0 ${width} ${height}" role="img" aria-label="${escapeText(label)}"`;
    return `<svg xmlns="http://www.w3.org/2000/svg" ${box}>${this.#axes()}${this.#marks.join('')}</svg>`;
  }

  #axes(): string {
    const { width, height, left, right, bottom, top } = SIZE;
    const [low, end] = [height - bottom, width - right];
    const across = ticksOf(this.#y).map(({ value, text }) => {
      const y = at(this.y(value));
      return `<line class="grid" x1="${left}" x2="${end}" y1="${y}" y2="${y}"/><text x="${left - 6}" y="${y}" dy="0.32em" text-anchor="end">${escapeText(text)}</text>`;
    });
    const along = ticksOf(this.#x).map(({ value, text }) => {
      const x = at(this.x(value));
      return `<line class="grid" x1="${x}" x2="${x}" y1="${top}" y2="${low}"/><text x="${x}" y="${low + 16}" text-anchor="middle">${escapeText(text)}</text>`;
    });
    const middle = (low + top) / 2;
    const labels = [
      `<text x="${(left + end) / 2}" y="${height - 8}" text-anchor="middle">${escapeText(this.#x.label)}</text>`,
      `<text transform="translate(14 ${middle}) rotate(-90)" text-anchor="middle">${escapeText(this.#y.label)}</text>`,
    ];
    return [...across, ...along, ...labels].join('');
  }
}

function at(value: number): string {
  return value.toFixed(1);
}

function share({ from, to }: Axis, value: number): number {
  return (value - from) / (to - from);
}

/** An axis on which all values are the same has some room around them. */
function widened(axis: Axis): Axis {
  if (axis.to > axis.from) return axis;
  const room = Math.abs(axis.from) / 10 || 1;
  return { ...axis, from: axis.from - room, to: axis.to + room };
}

/** About six round values. */
function ticksOf({ from, to, ticks }: Axis): readonly { readonly value: number; readonly text: string }[] {
  if (ticks) return ticks;
  const rough = (to - from) / 5;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * ([1, 2, 5].find((factor) => factor * power >= rough) ?? 10);
  const digits = Math.max(0, -Math.floor(Math.log10(step)));
  const first = Math.ceil(from / step);
  const count = Math.floor(to / step + 1e-9) - first + 1;
  return Array.from({ length: count }, (_, i) => {
    const value = (first + i) * step;
    return { value, text: value.toFixed(digits) };
  });
}

/** Names beside their colours. */
export function legend(names: readonly string[]): string {
  const items = names.map((name, i) => {
    const swatch = `<svg viewBox="0 0 24 8" width="24" height="8"><line x1="0" x2="24" y1="4" y2="4" ${stroke(i)}/></svg>`;
    return `<li>${swatch} ${escapeText(name)}</li>`;
  });
  return `<ul class="legend">${items.join('')}</ul>`;
}
