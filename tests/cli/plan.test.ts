import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, it } from 'vitest';
import { planLanes, planPlacement } from '#turnout/index.js';
import { shell, turnout } from '../support/cli.js';

const LOADS = [
  [90, 5, 3, 2],
  [10, 40, 40, 10],
];
const DEVICES = ['--devices', 'cpu:0,cpu:1'];

const plan = (args: readonly string[], input: unknown) =>
  turnout(['plan', ...args], typeof input === 'string' ? input : JSON.stringify(input));

describe('turnout plan', () => {
  it.concurrent('has help with examples, and is listed', async ({ expect }) => {
    const { out, code } = await turnout(['plan', '--help']);
    expect(code).toBe(0);
    expect(out).toContain('--json');
    expect(out).toMatch(/Examples:\n {2}\$ .*turnout plan /);
    expect((await turnout(['--help'])).out).toMatch(/^ {2}plan /m);
  });

  it.concurrent('prints lanes and layers as JSON, as the library gives them', async ({ expect }) => {
    const flags = [...DEVICES, '--replicas', '6', '--shared', '1', '--json'];
    const result = await plan(flags, { loads: LOADS });
    expect(result).toMatchObject({ err: '', code: 0 });
    const expected = planPlacement(LOADS, { devices: 2, replicas: 6 });
    expect(JSON.parse(result.out)).toEqual({
      lanes: planLanes(expected, ['cpu:0', 'cpu:1'], 1),
      ...expected,
    });
  });

  it.concurrent('reads a file, bare lists, one layer, and the result of route', async ({
    expect,
    onTestFinished,
  }) => {
    const folder = mkdtempSync(join(tmpdir(), 'turnout-'));
    onTestFinished(() => rmSync(folder, { recursive: true }));
    const file = join(folder, 'loads.json');
    writeFileSync(file, JSON.stringify(LOADS));
    const layers = async (args: readonly string[], input: unknown) =>
      JSON.parse((await plan([...args, ...DEVICES, '--replicas', '6', '--json'], input)).out).layers;
    const expected = planPlacement(LOADS, { devices: 2, replicas: 6 }).layers;
    expect(await layers([file], '')).toEqual(expected);
    expect(await layers(['-'], LOADS)).toEqual(expected);
    expect(await layers([], LOADS[0])).toEqual([expected[0]]);
    expect(await layers([], { loads: LOADS[0] })).toEqual([expected[0]]);

    const logits = JSON.stringify({ logits: [...new Array(9).fill([2, 0, 1, 0]), [0, 0, 0, 1]] });
    const options = JSON.stringify({ admit: { formula: 'fixed', capacity: 4, scope: 'call' } });
    const routed = await shell(
      `$TURNOUT route - -p switch -o '${options}' | $TURNOUT plan ${DEVICES.join(' ')} --json`,
      logits,
    );
    expect(JSON.parse(routed.out).layers).toEqual(planPlacement([[4, 0, 0, 1]], { devices: 2 }).layers);
  });

  it.concurrent('reads what run prints, the kept assignments of all its texts', async ({ expect }) => {
    const run = await turnout(['run', '--json', '-n', '3']);
    const texts: { layers: { kept: number[] }[] }[] = JSON.parse(run.out);
    expect(texts.length).toBeGreaterThan(1);
    const summed = texts[0].layers.map((layer, l) =>
      layer.kept.map((_, e) => texts.reduce((sum, { layers }) => sum + layers[l].kept[e], 0)),
    );
    const all = JSON.parse((await plan([...DEVICES, '--replicas', '10', '--json'], run.out)).out);
    expect(all.layers).toEqual(planPlacement(summed, { devices: 2, replicas: 10 }).layers);
    expect(new Set(all.lanes.flatMap(({ experts }: { experts: number[] }) => experts)).size).toBe(32);
    const one = JSON.parse((await plan([...DEVICES, '--json'], texts[0])).out);
    const kept = texts[0].layers.map((layer) => layer.kept);
    expect(one.layers).toEqual(planPlacement(kept, { devices: 2 }).layers);
  });

  it.concurrent('draws balancedness, replicas and loads for people', async ({ expect }) => {
    const { out, code, err } = await plan([...DEVICES, '--replicas', '6'], LOADS);
    expect({ code, err }).toEqual({ code: 0, err: '' });
    expect(out.split('\n')).toEqual([
      'global: 4 experts in 6 slots a layer, 3 on each of 2 devices',
      '',
      "share of each layer's load to expect, in %, by layer and lane",
      'layer     0    1',
      '0       62█  38▓   balancedness 0.53 -> 0.81, replicas 0 x3',
      '1       50█  50█   balancedness 1.00 -> 1.00, replicas 1 x2, 2 x2',
      '',
      'balancedness of all layers 0.69 -> 0.89 (mean / largest load of the devices; before: each expert once, in blocks)',
      'lane 0  cpu:0: 4 experts, load 112 (56.0 %)',
      'lane 1  cpu:1: 5 experts, load 88 (44.0 %)',
      '',
    ]);
  });

  it.concurrent('keeps groups on nodes, and says where it cannot', async ({ expect }) => {
    const four = ['--devices', 'cpu,cpu,cpu,cpu', '--nodes', '2'];
    const nodes = await plan([...four, '--groups', '2'], LOADS);
    expect(nodes.out).toMatch(/^hierarchical \(2 groups on 2 nodes\)/);
    expect(nodes.err).toBe('');
    const apart = await plan([...four, '--groups', '3', '--json'], LOADS);
    expect(JSON.parse(apart.out)).toMatchObject({ policy: 'global', nodes: 1 });
    expect(apart.err).toMatch(/2 nodes do not divide 3 groups/);
  });
});

describe('turnout plan refuses', () => {
  const cases: [string, string[], unknown, string, RegExp][] = [
    ['no devices', [], LOADS, '', /required option '--devices <list>'/],
    ['a count that is no number', [...DEVICES, '--replicas', 'six'], LOADS, '', /expected a number/],
    ['an unknown flag', [...DEVICES, '--replica', '6'], LOADS, '', /--replicas/],
    [
      'too few replicas',
      [...DEVICES, '--replicas', '2'],
      LOADS,
      'TURNOUT_OPTIONS_INVALID',
      /4 experts, got 2/,
    ],
    ['half a replica', [...DEVICES, '--replicas', '4.5'], LOADS, 'TURNOUT_OPTIONS_INVALID', /whole number/],
    [
      'uneven nodes',
      [...DEVICES, '--nodes', '3'],
      LOADS,
      'TURNOUT_OPTIONS_INVALID',
      /multiple of the 3 nodes/,
    ],
    [
      'a device that is none',
      ['--devices', 'cpu:x'],
      LOADS,
      'TURNOUT_OPTIONS_INVALID',
      /expected cpu, cpu:LIST/,
    ],
    ['negative shared experts', [...DEVICES, '--shared', '-1'], LOADS, 'TURNOUT_OPTIONS_INVALID', /shared/],
    ['ragged loads', DEVICES, [[1, 2], [1]], 'TURNOUT_INPUT_INVALID', /layer 1: expected 2 experts/],
    ['NaN', DEVICES, '[[1, NaN]]', 'TURNOUT_INPUT_INVALID', /layer 0, expert 1: .*got "NaN"/],
    ['negative loads', DEVICES, { loads: [[1, -2]] }, 'TURNOUT_INPUT_INVALID', /got -2/],
    ['nothing', DEVICES, [], 'TURNOUT_INPUT_INVALID', /at least one layer, got \[\]/],
    ['empty input', DEVICES, '', 'TURNOUT_INPUT_INVALID', /standard input: expected JSON/],
    ['a number', DEVICES, '7', 'TURNOUT_INPUT_INVALID', /turnout run --json/],
    ['a record of other things', DEVICES, { load: [1] }, 'TURNOUT_INPUT_INVALID', /turnout run --json/],
    ['layers without loads', DEVICES, { layers: [{}] }, 'TURNOUT_INPUT_INVALID', /layer 0: .*got undefined/],
    [
      'texts of two models',
      DEVICES,
      [{ layers: [{ kept: [1, 2] }] }, { layers: [{ kept: [1] }] }],
      'TURNOUT_INPUT_INVALID',
      /text 1: expected \[L, E\] = \[1,2\] as in text 0, got \[1,1\]/,
    ],
    ['a file that is not there', ['/nowhere.json', ...DEVICES], '', 'TURNOUT_FILE_MISSING', /nowhere/],
  ];
  for (const [name, args, input, code, message] of cases) {
    it.concurrent(`${name}: ${code || 'wrong usage'}`, async ({ expect }) => {
      const result = await plan(args, input);
      expect(result.out).toBe('');
      expect(result.err).toMatch(message);
      expect(result.err).not.toContain('    at ');
      expect(result.code).toBe(code === '' ? 2 : 1);
      if (code !== '') expect(result.err.startsWith(`${code}: `)).toBe(true);
    });
  }

  it.concurrent('with the error as JSON too', async ({ expect }) => {
    const { err } = await plan([...DEVICES, '--replicas', '5', '--json'], LOADS);
    expect(JSON.parse(err)).toMatchObject({
      code: 'TURNOUT_OPTIONS_INVALID',
      details: { name: 'replicas', got: 5 },
    });
  });
});
