/** How text may be coloured: not at all, or with the 256 colours of a terminal. */
export interface Style {
  readonly coloured: boolean;
  dim(text: string): string;
  bold(text: string): string;
  /** Text on a background that tells `level` from 0 to 1: single-hue blues, readable with any colour vision. */
  heat(text: string, level: number): string;
  /** Text in the colour of class `index`. */
  category(text: string, index: number): string;
}

/** From white to dark blue in the terminal's colour cube. */
const HEAT = [231, 195, 153, 117, 75, 33, 26, 19] as const;
/** Okabe and Ito's eight colours that any colour vision tells apart, as near as the colour cube comes. */
const CATEGORIES = [214, 75, 36, 227, 25, 166, 175, 250] as const;

export const PLAIN: Style = { coloured: false, dim: same, bold: same, heat: same, category: same };

export const COLOUR: Style = {
  coloured: true,
  dim: (text) => `\u001B[2m${text}\u001B[22m`,
  bold: (text) => `\u001B[1m${text}\u001B[22m`,
  heat(text, level) {
    const step = Math.min(HEAT.length - 1, Math.floor(level * HEAT.length));
    const ink = step >= 5 ? 231 : 16;
    return `\u001B[48;5;${HEAT[step]};38;5;${ink}m${text}\u001B[0m`;
  },
  category: (text, index) => `\u001B[48;5;${CATEGORIES[index % CATEGORIES.length]};38;5;16m${text}\u001B[0m`,
};

/** Colour for a terminal, unless NO_COLOR is set (no-color.org). */
export function styleOf(stream: { isTTY?: boolean }, env: NodeJS.ProcessEnv = process.env): Style {
  return stream.isTTY && !env.NO_COLOR ? COLOUR : PLAIN;
}

function same(text: string): string {
  return text;
}
