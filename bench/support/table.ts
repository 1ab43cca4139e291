type Row = Readonly<Record<string, string | number>>;

export function printTable(title: string, rows: readonly Row[]): void {
  console.log(`\n${drawRows(title, rows)}`);
}

/** Rows under the keys of the first one; numbers on the right, fractions with two decimals. */
export function drawRows(title: string, rows: readonly Row[]): string {
  const heads = Object.keys(rows[0] ?? {});
  const lines = [heads, ...rows.map((row) => heads.map((head) => text(row[head])))];
  const widths = heads.map((_, i) => Math.max(...lines.map((line) => line[i]!.length)));
  const isNumber = heads.map((head) => typeof rows[0]![head] === 'number');
  const drawn = lines.map((line) => {
    const cells = line.map((cell, i) => (isNumber[i] ? cell.padStart(widths[i]!) : cell.padEnd(widths[i]!)));
    return `  ${cells.join('  ').trimEnd()}`;
  });
  return [title, ...drawn].join('\n');
}

function text(value: string | number | undefined): string {
  if (typeof value === 'number' && !Number.isInteger(value)) return value.toFixed(2);
  return String(value ?? '');
}
