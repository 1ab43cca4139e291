import { execFileSync, spawn } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, it } from 'vitest';
import { checkReport } from '../../dist/bench/layer/report-schema.js';
import { TorchProcess } from '../../dist/bench/peers/torch-process.js';
import { MAIN, turnout } from '../support/cli.js';

const bench = (...args: string[]) => turnout(['bench', 'layer', ...args]);
const QUICK = ['--tokens', '3', '--loads', 'even', '--rounds', '1', '--lanes', '2'];
const SMALL = [...QUICK, '-e', '4', '--hidden', '64', '--inner', '64'];

/** A folder that is gone when the test is over. */
function folder(onTestFinished: (act: () => void) => void): string {
  const made = mkdtempSync(join(tmpdir(), 'turnout-'));
  onTestFinished(() => rmSync(made, { recursive: true }));
  return made;
}

/** Whether a Python on this machine has PyTorch. */
function hasTorch(): boolean {
  return ['python3', '/usr/bin/python3'].some((python) => {
    try {
      execFileSync(python, ['-c', 'import torch, numpy'], { stdio: 'ignore' });
      return true;
    } catch {
      return false;
    }
  });
}

describe('turnout bench layer', { timeout: 90_000 }, () => {
  it.concurrent('has help with examples, and is listed', async ({ expect }) => {
    expect((await turnout(['bench', '--help'])).out).toMatch(/^ {2}layer /m);
    const { out, code } = await bench('--help');
    expect(code).toBe(0);
    expect(out).toMatch(/Examples:\n {2}\$ turnout bench layer/);
    expect(out).toContain('docs/bench-layer.md');
  });

  it.concurrent('prints all contenders with their ratios, writes JSON, and tells what changed', async ({
    expect,
    onTestFinished,
  }) => {
    const file = join(folder(onTestFinished), 'report.json');
    const { out, err, code } = await bench(...SMALL, '--json', file);
    expect({ err, code }).toEqual({ err: '', code: 0 });
    const report = checkReport(JSON.parse(readFileSync(file, 'utf8')));
    const [shape] = report.shapes;
    const torch = hasTorch() ? ['torch'] : [];
    const names = ['auto', 'inline', 'threads', 'processes', 'fused', 'dense', ...torch];
    expect(shape!.cases[0]!.contenders.map(({ name }) => name)).toEqual(names);
    expect(Object.keys(shape!.versions)).toEqual(torch);
    if (torch.length === 0) expect(out).toContain('torch skipped: no Python with PyTorch');
    expect(out).toContain('4 experts, k 2, 64 x 64, float32 relu');
    const [head, line] = out.split('\n').filter((text) => /^even|^ +3 /.test(text));
    for (const name of names) expect(head).toContain(name);
    // And those of the least layer, on threads and, where there is memory for it, in processes.
    const least = ['least', ...(existsSync('/dev/shm') ? ['in processes'] : [])];
    for (const name of least) expect(head).toContain(name);
    expect(line!.match(/\d\.\d\dL/g)).toHaveLength(names.length + least.length);
    expect(line!.match(/ 1\.00x/g)!.length).toBeGreaterThan(0);

    const only = ['--contenders', 'inline', '--json', '-', '--compare', file];
    const again = await bench(...SMALL, ...only);
    expect(again.code).toBe(0);
    expect(again.err).toMatch(/^Compared 1 times: (none|1) changed/);
    expect(again.err).toContain(`Gone: ${names.length - 1} times.`);
    expect(checkReport(JSON.parse(again.out)).settings).toMatchObject({ contenders: ['inline'], lanes: 2 });
  });

  it.concurrent('takes a layer of a package, and rivals with its weights', async ({ expect }) => {
    const args = ['--package', 'experts/babel', '--layer', '1', '--contenders', 'inline,fused'];
    const { out, err, code } = await bench(...QUICK, ...args, '--json', '-');
    expect({ err, code }).toEqual({ err: '', code: 0 });
    const [figures] = checkReport(JSON.parse(out)).shapes;
    expect(figures!.shape).toEqual({
      name: 'babel, layer 1',
      experts: 8,
      k: 2,
      hidden: 128,
      inner: 256,
      activation: 'swiglu',
      dtype: 'float32',
    });
    expect(figures!.notes).toEqual([]);
    const [inline, fused] = figures!.cases[0]!.contenders;
    expect(inline!.difference).toBe(0);
    expect(fused!.difference).toBeGreaterThan(0);
    expect(fused!.difference).toBeLessThan(1e-5);
  });

  it.concurrent.for([
    ['TURNOUT_CHOICES_INVALID', ['--k', '5', '-e', '4']],
    ['TURNOUT_FILE_MISSING', ['--compare', 'nowhere.json']],
    ['TURNOUT_FILE_MISSING', ['--json', 'nowhere/report.json']],
  ] as const)('refuses with %s: %j', async ([code, args], { expect }) => {
    const outcome = await bench(...args);
    expect(outcome).toMatchObject({ out: '', code: 1 });
    expect(outcome.err).toContain(code);
  });

  it.concurrent.for([
    ['SIGINT', 130, 'Ctrl-C'],
    ['SIGTERM', 143, 'SIGTERM'],
  ] as const)(
    'ends cleanly with %s, and leaves no files',
    async ([by, code, who], { expect, onTestFinished }) => {
      const home = folder(onTestFinished);
      const child = spawn(
        process.execPath,
        [MAIN, 'bench', 'layer', ...SMALL, '--rounds', '1000', '--contenders', 'inline'],
        {
          env: { ...process.env, TMPDIR: home },
          stdio: ['ignore', 'ignore', 'pipe'],
        },
      );
      const ended = new Promise<number | null>((resolve) => child.on('close', resolve));
      let err = '';
      child.stderr.on('data', (data) => {
        err += data;
      });
      while (readdirSync(home).length === 0) await sleep(50);
      await sleep(500);
      child.kill(by);
      expect(await ended).toBe(code);
      expect(err).toBe(`Ended by ${who}.\n`);
      expect(readdirSync(home)).toEqual([]);
    },
  );
});

describe('PyTorch', () => {
  it.concurrent('is missing where no Python has it, with the reason of each', async ({ expect }) => {
    const missing = 'no-such-python: spawn no-such-python ENOENT; /bin/true: it ended';
    expect(await TorchProcess.start(1, ['no-such-python', '/bin/true'])).toEqual({ missing });
  });
});
