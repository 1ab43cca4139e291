import { spawn } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'vitest';
import { temporaryFolder } from '../support/babel.js';
import { MAIN, turnout } from '../support/cli.js';

const SMALL = [
  'startup',
  '--experts',
  '2',
  '--hidden',
  '32',
  '--inner',
  '16',
  '--backend',
  'inline',
  '--rounds',
  '1',
];

describe('turnout bench startup, scale and server', { timeout: 90_000 }, () => {
  it.concurrent('have help with examples, and are listed', async ({ expect }) => {
    const { out } = await turnout(['bench', '--help']);
    for (const name of ['startup', 'scale', 'server']) {
      expect(out).toMatch(new RegExp(`^ {2}${name} `, 'm'));
      const help = await turnout(['bench', name, '--help']);
      expect(help).toMatchObject({ code: 0, err: '' });
      expect(help.out).toContain(`Examples:\n  $ turnout bench ${name}`);
    }
  });

  it('print a table, write JSON, and tell what changed', async ({ expect }) => {
    const old = join(temporaryFolder(), 'old.json');
    const first = await turnout(['bench', ...SMALL, '--json', old]);
    expect(first).toMatchObject({ code: 0, err: '' });
    expect(first.out).toMatch(/^ +inline, packed +runtime +[\d.]+ \(/m);
    expect(JSON.parse(readFileSync(old, 'utf8')).format).toBe('turnout-bench-startup');
    const again = await turnout(['bench', ...SMALL, '--json', '-', '--compare', old]);
    expect(again.code).toBe(0);
    expect(again.err).toMatch(/^Compared 7 rows with /m);
    expect(JSON.parse(again.out).rows).toHaveLength(7);
    const other = await turnout(['bench', 'scale', '--compare', old]);
    expect(other).toMatchObject({ code: 1, out: '' });
    expect(other.err).toContain('TURNOUT_INPUT_INVALID');
  });

  it.concurrent.for<[string[], string]>([
    [['startup', '--experts', '0'], 'TURNOUT_OPTIONS_INVALID'],
    [['startup', '--backend', 'magic'], 'TURNOUT_OPTIONS_INVALID'],
    [['startup', '--package', '/nowhere'], 'TURNOUT_PACKAGE_FILE_MISSING'],
    [['startup', '--json', '/nowhere/report.json'], 'TURNOUT_FILE_MISSING'],
    [['startup', '--compare', '/nowhere'], 'TURNOUT_FILE_MISSING'],
    [['scale', '--experts', '8,4'], 'TURNOUT_OPTIONS_INVALID'],
    [['scale', '-k', '0'], 'TURNOUT_CHOICES_INVALID'],
    [['server', '--clients', '0'], 'TURNOUT_OPTIONS_INVALID'],
    [['server', '--tokens', '3000'], 'TURNOUT_OPTIONS_INVALID'],
    [['server', '--lanes', '2', '--backend', 'processes'], 'TURNOUT_OPTIONS_INVALID'],
    [['server', '--package', '/nowhere'], 'TURNOUT_PACKAGE_FILE_MISSING'],
  ])('refuse %j with a code', async ([args, code], { expect }) => {
    const refused = await turnout(['bench', ...args]);
    expect(refused).toMatchObject({ code: 1, out: '' });
    expect(refused.err).toContain(code);
  });

  it.concurrent.for([
    ['SIGINT', 130],
    ['SIGTERM', 143],
  ] as const)('end with %s, and leave no files', async ([by, code], { expect }) => {
    const args = ['startup', '--experts', '64', '--hidden', '512', '--inner', '512', '--rounds', '100'];
    const own = temporaryFolder();
    const child = spawn(process.execPath, [MAIN, 'bench', ...args], { env: { ...process.env, TMPDIR: own } });
    const ended = new Promise((resolve) => child.on('close', resolve));
    const made = () => readdirSync(own).filter((name) => name.startsWith('turnout-bench-startup-'));
    while (made().length === 0) await new Promise((resolve) => setTimeout(resolve, 20));
    child.kill(by);
    expect(await ended).toBe(code);
    expect(made()).toEqual([]);
  });
});
