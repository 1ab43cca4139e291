import { spawn } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { describe, expect, it } from 'vitest';
import type { LaneStats } from '#turnout/experts/backend.js';
import { temporaryFolder } from '../support/babel.js';
import { MAIN, shell, turnout } from '../support/cli.js';
import { allowedCpus } from '../support/proc.js';

const linux = process.platform === 'linux';
/** Two processes start sooner than one for each of the 32 experts. */
const TWO = ['--backend', 'processes', '--devices', 'cpu,cpu', '--one-process-per', 'device'];
const ALL = Array.from({ length: 32 }, (_, e) => e);

async function runJson(...flags: string[]) {
  const { out, err, code } = await turnout(['run', 'The ', '--json', '-n', '20', ...flags]);
  expect({ err, code }).toEqual({ err: '', code: 0 });
  return JSON.parse(out) as { text: string; lanes: LaneStats[] };
}

describe('turnout run --backend processes', { timeout: 60_000 }, () => {
  it('gives the text and routing of inline, and a line for each device', async () => {
    const args = ['run', 'The ', '-n', '20', '--seed', '5'];
    const [inline, processes] = [
      await turnout([...args, '--backend', 'inline']),
      await turnout([...args, ...TWO]),
    ];
    expect(processes).toMatchObject({ code: 0, err: '' });
    const [routing, devices] = processes.out.split('what each device computed\n');
    const untimed = (out: string) => out.split('ms by stage')[0];
    expect(untimed(routing!)).toBe(untimed(inline.out));
    expect(devices).toMatch(/^cpu {2}2 processes, 32 experts, \d+ rows, 0 restarts\n$/);
    expect(inline.out).not.toContain('what each device');
  });

  it('reports each lane as JSON', async () => {
    const { lanes } = await runJson(...TWO, '--replicas', '2', '--on-lost-expert', 'drop');
    expect(lanes).toHaveLength(2);
    for (const [i, lane] of lanes.entries()) {
      expect(lane).toMatchObject({ lane: i, device: 'cpu', provider: 'cpu', state: 'ready', restarts: 0 });
      expect(lane.experts).toEqual(ALL);
      expect(lane.rows).toBeGreaterThan(0);
      expect(lane.process!.pid).toBeGreaterThan(1);
    }
    const inline = await runJson('--backend', 'inline');
    expect(inline.lanes).toMatchObject([{ device: 'cpu', restarts: 0, experts: ALL }]);
  });

  it.runIf(linux)('takes a list of CPUs as one device', async () => {
    const [first, second] = allowedCpus();
    const one = second === undefined ? `cpu:${first}` : `cpu:${first},${second}`;
    const flags = ['--backend', 'processes', '--one-process-per', 'device', '--devices'];
    const { lanes } = await runJson(...flags, `${one},cpu:${first}`);
    expect(lanes.map(({ device }) => device)).toEqual([one, `cpu:${first}`]);
  });

  it('runs what turnout plan made of an earlier run', async () => {
    const file = join(temporaryFolder(), 'plan.json');
    const before = await shell(
      `$TURNOUT run 'The ' --json -n 20 --backend inline | tee ${file}.run | $TURNOUT plan --devices cpu,cpu --replicas 10 --json > ${file}`,
    );
    expect(before).toMatchObject({ code: 0, err: '' });
    const plan = JSON.parse(readFileSync(file, 'utf8'));
    const planned = await runJson('--backend', 'processes', '--placement', file);
    expect(planned.lanes.map(({ device, experts }) => ({ device, experts: [...experts] }))).toEqual(
      plan.lanes.map(({ device, experts }: LaneStats) => ({
        device,
        experts: [...experts].sort((a, b) => a - b),
      })),
    );
    expect(planned.text).toBe(JSON.parse(readFileSync(`${file}.run`, 'utf8')).text);
    const bare = await turnout(
      ['run', 'The ', '-n', '1', '--backend', 'processes', '--placement', '-'],
      JSON.stringify(plan.lanes),
    );
    expect(bare).toMatchObject({ code: 0, err: '' });
    expect(bare.out).toMatch(/\ncpu {2}2 processes, 32 experts/);
  });

  it.runIf(existsSync('/usr/bin/script'))('tells a terminal how many have started', async () => {
    const command = `'${process.execPath}' '${MAIN}' run x -n 1 ${TWO.join(' ')}`;
    const child = spawn('/usr/bin/script', ['-qec', command, '/dev/null'], {
      stdio: ['ignore', 'pipe', 'ignore'],
    });
    const out = await text(child.stdout);
    for (const ready of [0, 1, 2]) expect(out).toContain(`starting processes: ${ready} of 2`);
  });
});

describe('turnout run refuses', { timeout: 60_000 }, () => {
  const cases: [string[], string, RegExp][] = [
    [
      ['--backend', 'processes', '--devices', 'cuda:x'],
      'TURNOUT_OPTIONS_INVALID',
      /expected cpu, cpu:LIST .* got "cuda:x"/,
    ],
    [['--backend', 'processes', '--devices', 'foo'], 'TURNOUT_DEVICE_UNAVAILABLE', /^foo: .* got foo$/],
    [['--backend', 'processes', '--lanes', '2'], 'TURNOUT_OPTIONS_INVALID', /^--lanes: with processes/],
    [[...TWO, '--replicas', '3'], 'TURNOUT_OPTIONS_INVALID', /replicas from 1 to the 2 devices, got 3$/],
    [
      ['--devices', 'cpu:0'],
      'TURNOUT_OPTIONS_INVALID',
      /^--devices: auto .* cpu:0 needs --backend processes$/,
    ],
    [
      ['--backend', 'inline', '--devices', 'cuda:0'],
      'TURNOUT_OPTIONS_INVALID',
      /^--devices: inline .* cuda:0 needs/,
    ],
    [['--backend', 'inline', '--replicas', '1'], 'TURNOUT_OPTIONS_INVALID', /^--replicas: inline holds/],
    [
      ['--lanes', '2', '--replicas', '3'],
      'TURNOUT_OPTIONS_INVALID',
      /^replicas: expected .* from 1 to 2, got 3$/,
    ],
    [['--lanes', '3', '--devices', 'cpu,cpu'], 'TURNOUT_OPTIONS_INVALID', /^--lanes 3 and 2 devices/],
    ...[
      ['--one-process-per', 'device'],
      ['--placement', 'x'],
      ['--on-lost-expert', 'drop'],
    ].map(([flag, value]): [string[], string, RegExp] => [
      [flag!, value!],
      'TURNOUT_OPTIONS_INVALID',
      new RegExp(`^${flag}: needs --backend processes, got auto$`),
    ]),
  ];
  it.each(cases)('%j: %s', async (flags, code, message) => {
    const { err, code: exit, out } = await turnout(['run', 'x', ...flags, '--json']);
    expect({ exit, out, ...JSON.parse(err) }).toMatchObject({
      ...{ exit: 1, out: '', code },
      message: expect.stringMatching(message),
    });
  });

  it.each([
    ['--one-process-per', 'core'],
    ['--on-lost-expert', 'ignore'],
    ['--replicas', 'two'],
  ])('%s %s: wrong usage', async (flag, value) => {
    const { err, code } = await turnout(['run', 'x', ...TWO, flag, value]);
    expect({ code, err }).toEqual({ code: 2, err: expect.stringContaining(flag) });
  });

  const whole = { device: 'cpu', experts: ALL };
  it.each<[unknown, string, RegExp]>([
    ['', 'TURNOUT_INPUT_INVALID', /^--placement -: expected JSON/],
    ['{"lanes": [', 'TURNOUT_INPUT_INVALID', /^--placement -: expected JSON/],
    [7, 'TURNOUT_INPUT_INVALID', /^--placement: at the top: .* got 7$/],
    [{ layers: [] }, 'TURNOUT_INPUT_INVALID', /at the top: .*lanes/],
    [[], 'TURNOUT_INPUT_INVALID', /at \/lanes: /],
    [[whole, { device: 'cpu' }], 'TURNOUT_INPUT_INVALID', /at \/lanes\/1: .*experts/],
    [[{ ...whole, device: 0 }], 'TURNOUT_INPUT_INVALID', /at \/lanes\/0\/device: must be string, got 0$/],
    [{ lanes: [{ device: 'cpu', experts: [0, -1] }] }, 'TURNOUT_INPUT_INVALID', /\/experts\/1: .*got -1$/],
    [[{ ...whole, device: 'cpu:' }], 'TURNOUT_OPTIONS_INVALID', /got "cpu:"$/],
    [[{ device: 'cpu', experts: ALL.slice(1) }], 'TURNOUT_OPTIONS_INVALID', /got none for expert 0$/],
    [[{ device: 'cpu', experts: [...ALL, 32] }], 'TURNOUT_OPTIONS_INVALID', /from 0 to 31, got 32$/],
    [[{ device: 'cpu', experts: [...ALL, 31] }], 'TURNOUT_OPTIONS_INVALID', /got 31 twice$/],
  ])('a placement that cannot be, %#', async (placement, code, message) => {
    const input = typeof placement === 'string' ? placement : JSON.stringify(placement);
    const { err, code: exit } = await turnout(
      ['run', 'x', '--json', '--backend', 'processes', '--placement', '-'],
      input,
    );
    expect({ exit, ...JSON.parse(err) }).toMatchObject({
      ...{ exit: 1, code },
      message: expect.stringMatching(message),
    });
  });

  it('a placement beside devices, one that is not there, and standard input twice', async () => {
    const run = async (...flags: string[]) =>
      (await turnout(['run', ...flags], JSON.stringify([whole]))).err.split('\n')[0];
    expect(await run('x', ...TWO, '--placement', '-')).toMatch(
      /^TURNOUT_OPTIONS_INVALID: devices: placement/,
    );
    const processes = ['--backend', 'processes', '--placement'];
    expect(await run('x', ...processes, '/nowhere.json')).toMatch(/^TURNOUT_FILE_MISSING: .*nowhere/);
    expect(await run('-', ...processes, '-')).toMatch(/^TURNOUT_OPTIONS_INVALID: .*read once$/);
  });

  it.runIf(linux)('CPUs that are not there', async () => {
    const { err, code } = await turnout(['run', 'x', '--backend', 'processes', '--devices', 'cpu:8000']);
    expect(code).toBe(1);
    expect(err).toMatch(/^TURNOUT_DEVICE_UNAVAILABLE: cpu:8000: /);
  });

  it('a GPU that is hidden', async () => {
    const hidden = { CUDA_VISIBLE_DEVICES: '' };
    const args = ['run', 'x', '--backend', 'processes', '--devices', 'cuda:0'];
    const { err, code } = await turnout(args, '', hidden);
    expect(code).toBe(1);
    expect(err).toMatch(/^TURNOUT_DEVICE_UNAVAILABLE: cuda:0: /);
  });
});
