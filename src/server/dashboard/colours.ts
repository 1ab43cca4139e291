type Rgb = readonly [red: number, green: number, blue: number];

/**
 * From little to much: lightness falls evenly and hue runs from yellow over green to blue, so that the order can be read
 * with every kind of colour vision, and in grey.
 */
const RAMP: readonly Rgb[] = [
  [250, 247, 222],
  [228, 233, 176],
  [178, 216, 170],
  [120, 193, 175],
  [70, 163, 178],
  [47, 127, 170],
  [48, 90, 150],
  [51, 56, 120],
  [44, 27, 80],
];

const DARK_INK = '#000000';
const LIGHT_INK = '#ffffff';
/** The luminance at which both inks have the same contrast, 4.6. Softer inks would have less than 4.5 near it. */
const INK_TURN = 0.179;

const prefersDark = matchMedia('(prefers-color-scheme: dark)');

export const isDark = (): boolean => prefersDark.matches;

export function onSchemeChange(listener: () => void): void {
  prefersDark.addEventListener('change', listener);
}

/** A place on the ramp, 0 to 1. In dark mode it runs the other way, so that much always stands out from the page. */
export function sequential(share: number): { fill: string; ink: string } {
  const place = Math.min(1, Math.max(0, share));
  const at = (isDark() ? 1 - place * 0.92 : place) * (RAMP.length - 1);
  const [low, high] = [RAMP[Math.floor(at)]!, RAMP[Math.ceil(at)]!];
  const rgb = low.map((value, i) => Math.round(value + (high[i]! - value) * (at % 1))) as unknown as Rgb;
  return { fill: css(rgb), ink: luminance(rgb) > INK_TURN ? DARK_INK : LIGHT_INK };
}

/** The ramp as stops for a legend. */
export function rampGradient(): string {
  const stops = Array.from({ length: 17 }, (_, i) => `${sequential(i / 16).fill} ${(i / 16) * 100}%`);
  return `linear-gradient(to right, ${stops.join(', ')})`;
}

const LINES = {
  light: ['#2b62ad', '#b7500f', '#14775a', '#8a3a8c', '#7a6200', '#a52f45'],
  dark: ['#7fb2ff', '#ff9d5c', '#4fd0a5', '#e08be2', '#e0c04d', '#ff8fa0'],
};

/** The line of a layer in charts. Where layers outnumber the colours, depth becomes a place on the ramp. */
export function lineColour(layer: number, layers: number): string {
  const colours = LINES[isDark() ? 'dark' : 'light'];
  if (layers <= colours.length) return colours[layer]!;
  return sequential(0.4 + (0.6 * layer) / (layers - 1)).fill;
}

/** The second channel of a line: colours alone do not suffice. */
export function lineDash(layer: number): number[] {
  return [[], [7, 3], [2, 3], [9, 3, 2, 3]][layer % 4]!;
}

/** Eight colours times four patterns for experts (style.css has both); the number is always printed as well. */
export function expertClass(expert: number): string {
  return expert < 0 ? 'hue-none' : `hue-${expert % 8} pattern-${Math.floor(expert / 8) % 4}`;
}

const css = ([red, green, blue]: Rgb) => `rgb(${red} ${green} ${blue})`;

/** Relative luminance of WCAG 2. */
function luminance(rgb: Rgb): number {
  const [red, green, blue] = rgb.map((value) => {
    const share = value / 255;
    return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
  }) as [number, number, number];
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
}
