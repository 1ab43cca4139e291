import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { ERROR_CODES } from '#turnout/errors.js';

const ROOT = join(import.meta.dirname, '..');
const codes = Object.keys(ERROR_CODES).sort();

describe('the table of errors', () => {
  it('is documented, each code with its meaning', () => {
    const page = readFileSync(join(ROOT, 'docs', 'errors.md'), 'utf8');
    const rows = [...page.matchAll(/^\| `(TURNOUT_\w+)` \| (.+) \|$/gm)];
    expect(Object.fromEntries(rows.map((row) => [row[1], row[2]]))).toEqual(ERROR_CODES);
  });

  it('has no code that nothing throws', () => {
    const sources = readdirSync(join(ROOT, 'src'), { recursive: true, encoding: 'utf8' })
      .filter((file) => file.endsWith('.ts') && file !== 'errors.ts')
      .map((file) => readFileSync(join(ROOT, 'src', file), 'utf8'))
      .join('\n');
    expect(codes.filter((code) => !sources.includes(`'${code}'`))).toEqual([]);
  });
});
