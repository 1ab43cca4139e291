import { mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Value } from 'typebox/value';
import { describe, expect, it } from 'vitest';
import { presetNames } from '#turnout/router/presets.js';
import { shell, turnout } from '../support/cli.js';

const TWO_ROWS = {
  logits: [
    [2, 1, 0, -1],
    [2, 0, 1, -1],
  ],
};

async function route(args: readonly string[], input: unknown = TWO_ROWS) {
  const result = await turnout(['route', ...args], typeof input === 'string' ? input : JSON.stringify(input));
  expect(result.err).toBe('');
  expect(result.code).toBe(0);
  return JSON.parse(result.out);
}

async function refuse(args: readonly string[], input: unknown = TWO_ROWS) {
  const result = await turnout(['route', ...args], typeof input === 'string' ? input : JSON.stringify(input));
  expect(result.out).toBe('');
  expect(result.err).not.toContain('    at ');
  return result;
}

describe('turnout route', () => {
  it.concurrent('prints the routing of a preset with options over it', async ({ expect }) => {
    const options = { admit: { formula: 'fixed', capacity: 1 } };
    const out = await route(['--preset', 'mixtral', '--options', JSON.stringify(options)]);
    const first = 1 / (1 + Math.exp(-1));
    expect(out).toMatchObject({
      preset: 'mixtral',
      options: { select: { k: 2 }, admit: { formula: 'fixed', capacity: 1 } },
      T: 2,
      E: 4,
      K: 2,
      capacity: [1],
      causal: true,
      load: [2, 1, 1, 0],
      kept: [1, 1, 1, 0],
      losses: { hf: expect.any(Number), z: expect.any(Number), smoothLoad: null },
      imbalance: { maxVio: 1, dead: 1 },
    });
    const rest = { score: expect.any(Number) };
    expect(out.assignments).toEqual([
      { token: 0, choice: 0, expert: 0, weight: expect.closeTo(first, 6), slot: 0, dropped: false, ...rest },
      {
        token: 0,
        choice: 1,
        expert: 1,
        weight: expect.closeTo(1 - first, 6),
        slot: 0,
        dropped: false,
        ...rest,
      },
      { token: 1, choice: 0, expert: 0, weight: 0, slot: null, dropped: 'capacity', ...rest },
      {
        token: 1,
        choice: 1,
        expert: 2,
        weight: expect.closeTo(1 - first, 6),
        slot: 0,
        dropped: false,
        ...rest,
      },
    ]);
  });

  it.concurrent('reads input and options from files, and takes the short options', async ({ expect }) => {
    const folder = mkdtempSync(join(tmpdir(), 'turnout-route-'));
    const input = join(folder, 'input.json');
    const options = join(folder, 'options.json');
    writeFileSync(input, JSON.stringify(TWO_ROWS));
    writeFileSync(options, JSON.stringify({ weigh: { by: 'normalised' } }));
    const out = await route([
      input,
      '--preset',
      'olmoe',
      '--options',
      options,
      '--k',
      '3',
      '--capacity-factor',
      '2',
    ]);
    expect(out.options).toMatchObject({
      select: { k: 3 },
      weigh: { by: 'normalised' },
      admit: { factor: 2 },
    });
    expect(out.K).toBe(3);
  });

  it.concurrent('takes whole options without a preset, and no capacity as null', async ({ expect }) => {
    const options = {
      algorithm: 'token-choice',
      score: { function: 'identity' },
      select: { k: 1 },
      weigh: { by: 'score' },
    };
    const out = await route(['--options', JSON.stringify(options)]);
    expect([out.preset, out.capacity, out.assignments[1].weight]).toEqual([null, [null], 2]);
  });

  it.concurrent('keeps sequences apart, and says what is not causal', async ({ expect }) => {
    const admit = { formula: 'fixed', capacity: 1 };
    const apart = await route(['-p', 'switch', '-o', JSON.stringify({ admit })], {
      ...TWO_ROWS,
      sequences: [1, 1],
    });
    expect(apart.kept).toEqual([2, 0, 0, 0]);
    expect(apart.causal).toBe(false);
    const together = await route(
      ['-p', 'switch', '-o', JSON.stringify({ admit: { ...admit, scope: 'call' } })],
      {
        ...TWO_ROWS,
        sequences: [1, 1],
      },
    );
    expect([together.kept, together.causal]).toEqual([[1, 0, 0, 0], false]);
    expect(together.notCausalBecause).toContain('call');
  });

  it.concurrent('takes the random numbers to use', async ({ expect }) => {
    const input = { logits: [[1, 0.5]], uniforms: [[0, 0.999]] };
    const out = await route(['-p', 'gshard'], input);
    expect(out.assignments[1]).toMatchObject({ dropped: 'later-choice', weight: 0, slot: null });
  });

  it.concurrent('tells the smooth load where there is noise', async ({ expect }) => {
    const input = { logits: [[0.9, 0.06, 0.04]], noise: [[-0.37, 0.26, -0.18]] };
    const out = await route(['-p', 'v-moe'], input);
    expect(out.losses.smoothLoad).toBeGreaterThan(0);
  });

  it.concurrent('writes k and the capacity factor where the algorithm has them', async ({ expect }) => {
    expect((await route(['-p', 'mixtral', '-k', '1', '-c', '1.5'])).options).toMatchObject({
      select: { k: 1 },
      admit: { factor: 1.5 },
    });
    expect((await route(['-p', 'sinkhorn', '-k', '2', '-c', '1.5'])).options).toMatchObject({
      k: 2,
      admit: { factor: 1.5 },
    });
    expect((await route(['-p', 'expert-choice', '-c', '1.5'])).options.factor).toBe(1.5);
    expect((await route(['-p', 'switch', '-c', 'none'])).capacity).toEqual([null]);
  });

  it.concurrent('replays recorded experts and weights', async ({ expect }) => {
    const given = {
      experts: [
        [3, 0],
        [1, -1],
      ],
      weights: [
        [0.5, 0.25],
        [2, 0],
      ],
    };
    const out = await route(['-o', '{"algorithm": "given", "k": 2}'], { ...TWO_ROWS, given });
    const rows = out.assignments.map((a: { token: number; expert: number; weight: number }) => [
      a.token,
      a.expert,
      a.weight,
    ]);
    expect(rows).toEqual([
      [0, 3, 0.5],
      [0, 0, 0.25],
      [1, 1, 2],
    ]);
  });

  it.concurrent('reads what JSON cannot say: bare or quoted infinities', async ({ expect }) => {
    const bare = await route(['-p', 'mixtral'], '{"logits": [[1, -Infinity, 0]]}');
    const quoted = await route(['-p', 'mixtral'], { logits: [[1, '-inf', 0]] });
    expect(bare.assignments).toEqual(quoted.assignments);
    expect(bare.assignments.map(({ expert }: { expert: number }) => expert)).toEqual([0, 2]);
  });

  it.concurrent('works without tokens', async ({ expect }) => {
    const out = await route(['-p', 'deepseek-v3'], { logits: [] });
    expect(out).toMatchObject({ T: 0, assignments: [] });
    expect((await route(['-p', 'mixtral', '--experts', '6'], { logits: [] })).load).toEqual([
      0, 0, 0, 0, 0, 0,
    ]);
  });

  it.concurrent('prints schemas that its own input, options and output fit', async ({ expect }) => {
    const schemas = JSON.parse((await turnout(['route', '--schema'])).out);
    expect(Object.keys(schemas)).toEqual(['input', 'options', 'output']);
    expect([
      ...Value.Errors(schemas.input, { logits: [[1, 'NaN']], sequences: [1], uniforms: [[0]] }),
    ]).toEqual([]);
    expect(Value.Check(schemas.input, { logit: [[1]] })).toBe(false);
    for (const preset of ['gshard', 'deepspeed-moe', 'expert-choice', 'base', 'hash', 'phi-moe']) {
      const out = await route(['-p', preset], { ...TWO_ROWS, tokenIds: [7, 8] });
      expect([...Value.Errors(schemas.output, out)]).toEqual([]);
      expect([...Value.Errors(schemas.options, out.options)]).toEqual([]);
    }
  });

  it.concurrent('lists the presets, and has help with an example', async ({ expect }) => {
    expect((await turnout(['route', '--list-presets'])).out.trim().split('\n')).toEqual(presetNames);
    const help = await turnout(['route', '--help']);
    expect(help.code).toBe(0);
    expect(help.out).toContain('turnout route --preset switch');
  });
});

describe('turnout route refuses', () => {
  const data: [string, string[], unknown, string, RegExp][] = [
    ['NaN', ['-p', 'switch'], '{"logits": [[1, NaN]]}', 'TURNOUT_LOGITS_INVALID', /row 0 .*NaN in column 1/],
    ['a quoted NaN', ['-p', 'switch'], { logits: [[1, 'NaN']] }, 'TURNOUT_LOGITS_INVALID', /NaN in column 1/],
    [
      '+infinity',
      ['-p', 'switch'],
      '{"logits": [[1, 2], [Infinity, 1]]}',
      'TURNOUT_LOGITS_INVALID',
      /row 1 .*Infinity in column 0/,
    ],
    [
      'a row of -infinity',
      ['-p', 'switch'],
      { logits: [['-inf', '-inf']] },
      'TURNOUT_LOGITS_INVALID',
      /row 0 .*only -Infinity/,
    ],
    ['k > E', ['-p', 'mixtral', '-k', '5'], TWO_ROWS, 'TURNOUT_CHOICES_INVALID', /1\.\.4, got 5/],
    ['k < 1', ['-p', 'mixtral', '-k', '0'], TWO_ROWS, 'TURNOUT_CHOICES_INVALID', /got 0/],
    ['factor 0', ['-p', 'mixtral', '-c', '0'], TWO_ROWS, 'TURNOUT_CAPACITY_INVALID', /got 0/],
    ['a factor below 0', ['-p', 'mixtral', '-c', '-2'], TWO_ROWS, 'TURNOUT_CAPACITY_INVALID', /got -2/],
    ['E = 0', ['-p', 'switch'], { logits: [[], []] }, 'TURNOUT_EXPERTS_INVALID', /got 0/],
    [
      'rows of different length',
      ['-p', 'switch'],
      { logits: [[1, 2], [1]] },
      'TURNOUT_SHAPE_MISMATCH',
      /row 1: expected 2 numbers, got 1/,
    ],
    [
      'sequences of another sum',
      ['-p', 'switch'],
      { ...TWO_ROWS, sequences: [1] },
      'TURNOUT_SHAPE_MISMATCH',
      /T = 2, got a sum of 1/,
    ],
    [
      'groups that do not divide E',
      ['-p', 'deepseek-v3', '-k', '2'],
      { logits: [[1, 2, 3]] },
      'TURNOUT_EXPERTS_INVALID',
      /divisor of E = 3, got 8/,
    ],
    ['expert choice with k', ['-p', 'expert-choice', '-k', '2'], TWO_ROWS, 'TURNOUT_CHOICES_INVALID', /"k"/],
    ['hash without token ids', ['-p', 'hash'], TWO_ROWS, 'TURNOUT_INPUT_INVALID', /tokenIds \[T\] = \[2\]/],
    [
      'a replay of a fraction of an expert',
      ['-o', '{"algorithm": "given", "k": 1}'],
      { logits: [[1, 2]], given: { experts: [[0.5]], weights: [[1]] } },
      'TURNOUT_INPUT_INVALID',
      /given.experts, row 0, column 0: expected a whole number, got 0.5/,
    ],
    ['an unknown preset', ['-p', 'mixtrel'], TWO_ROWS, 'TURNOUT_PRESET_UNKNOWN', /mixtral/],
    [
      'an unknown option',
      ['-p', 'mixtral', '-o', '{"admitt": 1}'],
      TWO_ROWS,
      'TURNOUT_OPTIONS_INVALID',
      /admitt/,
    ],
    [
      'an unknown input',
      ['-p', 'mixtral'],
      { ...TWO_ROWS, logit: 1 },
      'TURNOUT_INPUT_INVALID',
      /logit: expected one of the keys/,
    ],
    ['no logits', ['-p', 'mixtral'], {}, 'TURNOUT_INPUT_INVALID', /logits: expected a list, got undefined/],
    [
      'what is no number',
      ['-p', 'mixtral'],
      { logits: [[1, 'two', 3]] },
      'TURNOUT_INPUT_INVALID',
      /row 0, column 1: .*got "two"/,
    ],
    ['what is no JSON', ['-p', 'mixtral'], '{"logits": [[1, 2', 'TURNOUT_INPUT_INVALID', /expected JSON/],
    ['no rule at all', [], TWO_ROWS, 'TURNOUT_OPTIONS_INVALID', /algorithm/],
  ];
  for (const [name, args, input, code, message] of data) {
    it.concurrent(`${name}: ${code}, exit code 1`, async ({ expect }) => {
      const result = await refuse(args, input);
      expect(result.err.startsWith(`${code}: `)).toBe(true);
      expect(result.err).toMatch(message);
      expect(result.code).toBe(1);
    });
  }

  it.concurrent('a file that is not there, as text or as JSON', async ({ expect }) => {
    expect((await refuse(['-p', 'switch', '/nowhere/x.json'])).err).toMatch(
      /^TURNOUT_FILE_MISSING: .*nowhere/,
    );
    const error = JSON.parse((await refuse(['-p', 'switch', '/nowhere/x.json', '--json'])).err);
    expect(error).toMatchObject({ code: 'TURNOUT_FILE_MISSING', details: { path: '/nowhere/x.json' } });
  });

  it.concurrent('a wrong command line, with exit code 2', async ({ expect }) => {
    expect((await refuse(['--presett', 'x'])).code).toBe(2);
    expect((await refuse(['-p', 'mixtral', '-k', 'two'])).code).toBe(2);
  });

  it.concurrent('nothing when the reader goes away', async ({ expect }) => {
    const input = JSON.stringify({ logits: Array.from({ length: 3000 }, () => [1, 2, 3, 4]) });
    const result = await shell('$TURNOUT route -p switch - | head -c 1', input);
    expect([result.out, result.err]).toEqual(['{', '']);
  });
});
