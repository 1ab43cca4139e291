import { spawn } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, it } from 'vitest';
import { checkReport } from '../../dist/bench/routing/report-schema.js';
import { MAIN, turnout } from '../support/cli.js';

const bench = (...args: string[]) => turnout(['bench', 'routing', ...args]);
const SMALL = [
  '--presets',
  'trained,switch',
  '--factors',
  '1.25,none',
  '--overflows',
  'drop',
  '--tokens',
  '16',
];
const MADE = ['--synthetic', 'zipf', '--experts', '8', '--tokens', '64'];

/** A folder that is gone when the test is over. */
function folder(onTestFinished: (act: () => void) => void): string {
  const made = mkdtempSync(join(tmpdir(), 'turnout-'));
  onTestFinished(() => rmSync(made, { recursive: true }));
  return made;
}

describe('turnout bench routing', () => {
  it.concurrent('has help with examples, and is listed', async ({ expect }) => {
    expect((await turnout(['--help'])).out).toMatch(/^ {2}bench /m);
    expect((await turnout(['bench', '--help'])).out).toMatch(/^ {2}routing /m);
    const { out, code } = await bench('--help');
    expect(code).toBe(0);
    expect(out).toMatch(/Examples:\n {2}\$ turnout bench routing/);
    expect(out).toContain('not what the rule is worth in training');
  });

  it.concurrent('prints a table of the held-out text, sorted as told', async ({ expect }) => {
    const { out, err, code } = await bench(...SMALL, '--sort', 'MFLOP');
    expect({ err, code }).toEqual({ err: '', code: 0 });
    const lines = out.split('\n').filter((line) => /^[* ][~ ][= ](trained|switch)/.test(line));
    const costs = lines.map((line) => Number(/[+-]\d\.\d{4} +\S+ +(\d\.\d{3})/.exec(line)![1]));
    expect(costs.length).toBeGreaterThan(10);
    expect(costs).toEqual(costs.toSorted((a, b) => a - b));
    expect(out).toContain('sorted by MFLOP');
  });

  it.concurrent('writes JSON, HTML and what changed since an older run', async ({
    expect,
    onTestFinished,
  }) => {
    const made = folder(onTestFinished);
    const [old, page] = [join(made, 'old.json'), join(made, 'page.html')];
    expect(await bench(...SMALL, '--json', old, '--html', page)).toMatchObject({ code: 0, err: '' });
    expect(readFileSync(page, 'utf8')).toContain('<h2>Quality and cost</h2>');
    const report = checkReport(JSON.parse(readFileSync(old, 'utf8')));
    expect(report.rows.some(({ onFront }) => onFront)).toBe(true);
    const again = await bench(...SMALL, '--backend', 'threads', '--json', '-', '--compare', old);
    expect(again.code).toBe(0);
    expect(again.err).toContain(`Compared ${report.rows.length} rows`);
    // The routing figures are the same on the other backend; times may not be.
    expect(again.err).not.toMatch(/quality|drops|load|losses|cost|layers|inputs differ/);
    expect(checkReport(JSON.parse(again.out)).inputs).toBe(report.inputs);
  });

  it.concurrent('reads a text file, made-up logits, and their sizes', async ({ expect, onTestFinished }) => {
    const file = join(folder(onTestFinished), 'text');
    writeFileSync(file, 'To be, or not to be');
    const text = JSON.parse((await bench(...SMALL, '--text', file, '--json', '-')).out);
    expect(text.source).toMatchObject({ text: 'file', domains: ['text'], bytes: 16 });
    const sizes = ['--hidden', '10', '--inner', '7', '--activation', 'plain'];
    const made = JSON.parse(
      (await bench(...MADE, '--factors', 'none', '-k', '3', ...sizes, '--json', '-')).out,
    );
    // shazeer-noisy: 3 choices of 2 matrices of 10 x 7.
    const [row] = made.rows.filter(({ name }: { name: string }) => name === 'shazeer-noisy');
    expect(row).toMatchObject({ choices: 3, cost: { flopsPerToken: 3 * 2 * 2 * 70 } });
  });

  it.concurrent('can be cut short, or repeated for its times', async ({ expect }) => {
    const cut = ['--quick', '--limit', '3', '--tokens', '16', '--per-call', '3'];
    const rowsOf = async (...more: string[]) =>
      checkReport(JSON.parse((await bench(...cut, ...more, '--json', '-')).out)).rows;
    const [once, twice] = [await rowsOf(), await rowsOf('--repeats', '2')];
    expect(once).toHaveLength(3);
    // Six domains, three to a call.
    expect(once.map(({ times }) => times.call.samples)).toEqual([2, 2, 2]);
    expect(twice.map(({ times }) => times.call.samples)).toEqual([4, 4, 4]);
    const figures = (rows: typeof once) => rows.map(({ times: _, ...row }) => row);
    expect(figures(twice)).toEqual(figures(once));
  });

  it.concurrent.for<[string[], string]>([
    [['--presets', 'nothing'], 'TURNOUT_PRESET_UNKNOWN'],
    [['--factors', '-1'], 'TURNOUT_CAPACITY_INVALID'],
    [['--scopes', 'all'], 'TURNOUT_OPTIONS_INVALID'],
    [['--sort', 'beauty'], 'TURNOUT_OPTIONS_INVALID'],
    [['--tokens', '0'], 'TURNOUT_OPTIONS_INVALID'],
    [['--window', '1.5'], 'TURNOUT_OPTIONS_INVALID'],
    [['-k', '0'], 'TURNOUT_CHOICES_INVALID'],
    [['--text', '/nowhere'], 'TURNOUT_FILE_MISSING'],
    [['--recording', '/nowhere'], 'TURNOUT_FILE_MISSING'],
    [['--recording', 'package.json'], 'TURNOUT_INPUT_INVALID'],
    [['--compare', 'package.json'], 'TURNOUT_INPUT_INVALID'],
    [['--text', 'README.md', '--synthetic', 'zipf'], 'TURNOUT_OPTIONS_INVALID'],
    [['--synthetic', 'zipf', '--experts', '8', '-k', '9', '--presets', 'mixtral'], 'TURNOUT_OPTIONS_INVALID'],
    [['--lanes', '2', '--backend', 'processes'], 'TURNOUT_OPTIONS_INVALID'],
    [[...MADE, '--factors', 'none', '--json', '/nowhere/report.json'], 'TURNOUT_FILE_MISSING'],
  ])('refuses %j with a code', async ([args, code], { expect }) => {
    const refused = await bench(...args);
    expect(refused).toMatchObject({ code: 1, out: '' });
    expect(refused.err).toContain(code);
  });

  it.concurrent('ends with 2 for a wrong command line', async ({ expect }) => {
    for (const args of [['routing', '--nothing'], ['nothing'], ['routing', '--synthetic', 'round']])
      expect((await turnout(['bench', ...args])).code).toBe(2);
  });

  it.concurrent('is ended by Ctrl-C, and resumed', async ({ expect, onTestFinished }) => {
    const rows = join(folder(onTestFinished), 'rows.jsonl');
    const args = ['--synthetic', 'zipf', '--experts', '8', '--tokens', '1024', '--presets', 'mixtral,switch'];
    const child = spawn(process.execPath, [MAIN, 'bench', 'routing', ...args, '--resume', rows]);
    const ended = new Promise((resolve) => child.on('close', resolve));
    const lines = () => (existsSync(rows) ? readFileSync(rows, 'utf8').trim().split('\n') : []);
    while (lines().length < 4) await sleep(5);
    child.kill('SIGINT');
    expect(await ended).toBe(130);
    const kept = lines()
      .slice(1)
      .map((line) => JSON.parse(line));
    expect(kept.length).toBeGreaterThan(2);
    const whole = JSON.parse((await bench(...args, '--json', '-', '--resume', rows)).out);
    expect(whole.rows.length).toBeGreaterThan(kept.length);
    expect(whole.rows[0].times).toEqual(kept[0].times);
    const other = await bench(...args, '--seed', '1', '--resume', rows);
    expect(other).toMatchObject({ code: 1, err: expect.stringContaining('TURNOUT_INPUT_INVALID') });
  });
});
