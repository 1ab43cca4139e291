import type { Style } from './style.js';

/** Shades of a cell where there is no colour. */
const SHADES = ' ░▒▓█';
/** Columns of a terminal that a map may take; more experts are drawn in more than one band. */
const BAND = 16;

export interface HeatMap {
  /** What the rows and the columns are. */
  readonly title: string;
  readonly rows: readonly {
    readonly name: string;
    readonly shares: readonly number[];
    readonly note?: string;
  }[];
}

/** Shares [rows][columns] from 0 to 1 as percentages on a scale that ends at the largest one. */
export function drawHeatMap({ title, rows }: HeatMap, style: Style): string {
  const columns = Math.max(0, ...rows.map((row) => row.shares.length));
  const most = Math.max(Number.MIN_VALUE, ...rows.flatMap((row) => row.shares));
  const width = Math.max(title.length, ...rows.map((row) => row.name.length));
  const lines: string[] = [];
  for (let from = 0; from < columns; from += BAND) {
    const to = Math.min(columns, from + BAND);
    const head = Array.from({ length: to - from }, (_, i) => String(from + i).padStart(4)).join(' ');
    lines.push(style.dim(`${title.padEnd(width)}  ${head}`));
    for (const row of rows) {
      const cells = row.shares.slice(from, to).map((share) => cell(share, share / most, style));
      const note = from === 0 && row.note ? `   ${style.dim(row.note)}` : '';
      lines.push(`${row.name.padEnd(width)}  ${cells.join(' ')}${note}`);
    }
  }
  return lines.join('\n');
}

function cell(share: number, level: number, style: Style): string {
  const number = (100 * share).toFixed(0).padStart(3);
  if (style.coloured) return style.heat(`${number} `, level);
  return `${number}${SHADES[Math.min(SHADES.length - 1, Math.ceil(level * (SHADES.length - 1)))]}`;
}
