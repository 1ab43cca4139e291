const MINUS = '\u2212';

/** A number with `digits` decimals; an en dash where there is none. */
export function fixed(value: number | null | undefined, digits: number): string {
  if (value === null || value === undefined || !Number.isFinite(value)) return '\u2013';
  return value.toFixed(digits).replace('-', MINUS);
}

/** 0.1234 -> "12.3 %" */
export function percent(share: number | null | undefined, digits = 1): string {
  const text = fixed(share === null || share === undefined ? share : share * 100, digits);
  return text === '\u2013' ? text : `${text}\u202F%`;
}

/** 12345 -> "12,345" */
export function count(value: number): string {
  return Math.round(value).toLocaleString('en-US');
}

/** 1234567 -> "1.2M"; short enough for tiles. */
export function short(value: number): string {
  if (value < 10_000) return count(value);
  const units = ['k', 'M', 'G', 'T'];
  const power = Math.min(units.length, Math.floor(Math.log10(value) / 3));
  return `${(value / 1000 ** power).toFixed(1)}${units[power - 1]}`;
}

export function bytes(value: number): string {
  if (value < 1024 ** 2) return `${Math.round(value / 1024)}\u202FKiB`;
  if (value < 1024 ** 3) return `${Math.round(value / 1024 ** 2)}\u202FMiB`;
  return `${(value / 1024 ** 3).toFixed(1)}\u202FGiB`;
}

export function milliseconds(value: number | null | undefined): string {
  if (value === null || value === undefined || !Number.isFinite(value)) return '\u2013';
  if (value >= 1_000) return `${(value / 1_000).toFixed(2)}\u202Fs`;
  return `${value.toFixed(value < 10 ? 2 : value < 100 ? 1 : 0)}\u202Fms`;
}

/** Milliseconds -> "2 h 05 min" */
export function duration(ms: number): string {
  const seconds = Math.max(0, Math.floor(ms / 1_000));
  const [minutes, hours] = [Math.floor(seconds / 60), Math.floor(seconds / 3_600)];
  if (seconds < 60) return `${seconds}\u202Fs`;
  if (minutes < 60) return `${minutes}\u202Fmin ${seconds % 60}\u202Fs`;
  if (hours < 48) return `${hours}\u202Fh ${minutes % 60}\u202Fmin`;
  return `${Math.floor(hours / 24)} days`;
}

/** [0, 1, 2, 5] -> "0\u20132, 5" */
export function ranges(numbers: readonly number[]): string {
  const sorted = [...numbers].sort((a, b) => a - b);
  const parts: [from: number, to: number][] = [];
  for (const n of sorted) {
    const last = parts.at(-1);
    if (last && last[1] === n - 1) last[1] = n;
    else parts.push([n, n]);
  }
  return parts.map(([from, to]) => (from === to ? `${from}` : `${from}\u2013${to}`)).join(', ');
}

export function plural(n: number, one: string, many = `${one}s`): string {
  return `${count(n)} ${n === 1 ? one : many}`;
}
