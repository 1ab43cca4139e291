/** Prints rows under the keys of the first one; numbers on the right, fractions with two decimals. */
export function printTable(title: string, rows: readonly Readonly<Record<string, string | number>>[]): void {
  const heads = Object.keys(rows[0] ?? {});
  const lines = [heads, ...rows.map((row) => heads.map((head) => text(row[head])))];
  const widths = heads.map((_, i) => Math.max(...lines.map((line) => line[i]!.length)));
  const isNumber = heads.map((head) => typeof rows[0]![head] === 'number');
  console.log(`\n${title}`);
  for (const line of lines) {
    const cells = line.map((cell, i) => (isNumber[i] ? cell.padStart(widths[i]!) : cell.padEnd(widths[i]!)));
    console.log(`  ${cells.join('  ').trimEnd()}`);
  }
}

function text(value: string | number | undefined): string {
  if (typeof value === 'number' && !Number.isInteger(value)) return value.toFixed(2);
  return String(value ?? '');
}
