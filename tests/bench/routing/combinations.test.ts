import { describe, expect, it } from 'vitest';
import { TurnoutError } from '#turnout/errors.js';
import { createRouter } from '#turnout/router/create.js';
import { mergeOptions } from '#turnout/router/options.js';
import { presetNames, presetOptions } from '#turnout/router/presets.js';
import { OVERFLOWS, PRIORITIES, parseAxes, SCOPES } from '../../../dist/bench/routing/axes.js';
import { baselineOf } from '../../../dist/bench/routing/combinations.js';
import { openSynthetic } from '../../../dist/bench/routing/synthetic.js';
import { benchRouting, chosen, find, routingFigures } from '../../support/bench.js';

const source = (experts: number, tokens = 64) =>
  openSynthetic({ shape: 'zipf', experts, tokens, window: 32, perCall: 2, seed: 3 });

const refused = (act: () => unknown): boolean => {
  try {
    act();
    return false;
  } catch (error) {
    if (error instanceof TurnoutError) return true;
    throw error;
  }
};

describe('the combinations of a sweep', () => {
  it('are every preset that fits, and no other', () => {
    for (const experts of [1, 2, 8, 9, 64, 256]) {
      const names = chosen(source(experts), { factors: 'none' }).all.flatMap(({ name, alsoKnownAs }) => [
        name,
        ...alsoKnownAs,
      ]);
      const fitting = presetNames.filter(
        (name) => !refused(() => createRouter(presetOptions(name), experts)),
      );
      expect(new Set(names)).toEqual(new Set(fitting));
    }
  });

  it('are every factor with every order, overflow and scope that can be', () => {
    const { all, tried, refused: cannot } = chosen(source(8), { presets: 'mixtral' });
    const expected = [1, 1.25, 1.5, 2].flatMap((factor) =>
      SCOPES.flatMap((scope) =>
        PRIORITIES.flatMap((priority) =>
          OVERFLOWS.flatMap((overflow) => {
            const options = mergeOptions(presetOptions('mixtral'), {
              admit: { factor, scope, priority, overflow },
            });
            return refused(() => createRouter(options, 8)) ? [] : [{ factor, scope, priority, overflow }];
          }),
        ),
      ),
    );
    // 26 at each factor, and dropless once.
    expect(expected).toHaveLength(104);
    expect(all).toHaveLength(105);
    for (const words of expected) expect(find(all, words).causal).toBe(words.scope === 'request');
    expect(find(all, { factor: 'none' })).toMatchObject({ name: 'mixtral', capacity: 'own', alike: 37 });
    // The preset, and 5 capacities; scope request has one order.
    expect([tried, cannot]).toEqual([1 + 5 * 36, 4 * 10]);
  });

  it('run once where no expert can be full, and one choice makes k-major no order', () => {
    expect(chosen(source(8), { presets: 'olmoe' }).all.map(({ factor }) => factor)).toEqual(['none']);
    const single = chosen(source(8), { presets: 'llama-4', factors: '1' }).all;
    expect(new Set(single.map(({ priority }) => priority))).toEqual(
      new Set(['-', ...PRIORITIES.filter((priority) => priority !== 'k-major')]),
    );
  });

  it('leave nothing out that decides otherwise: rows run once are those that they stand for', async () => {
    const flags = { presets: 'gpt-oss', factors: '2', scopes: 'call' };
    const [row] = (await benchRouting(source(8), flags)).rows;
    expect(row).toMatchObject({ factor: 'none', alike: 1 + 12 });
    const options = mergeOptions(presetOptions('gpt-oss'), { admit: { factor: 2, scope: 'call' } });
    const logits = source(8);
    const routers = [createRouter(options, 8)];
    const run = await logits.run(0, { options: [options], routers });
    expect(run.layers[0]!.routing.reason.every((reason) => reason === 0)).toBe(true);
  });

  it('take expert choice in both its scopes, and never without a factor', () => {
    const { all } = chosen(source(8), { presets: 'expert-choice', factors: '1,1.5,none' });
    expect(all.map(({ factor, scope }) => `${factor} ${scope}`).toSorted()).toEqual(
      ['2 sequence', '1 sequence', '1 call', '1.5 sequence', '1.5 call'].toSorted(),
    );
  });

  it('key random rules by the seed, which changes their figures alone', async () => {
    const flags = {
      presets: 'gshard,mixtral',
      factors: '1',
      scopes: 'sequence',
      priorities: 'random,k-major',
    };
    const first = await benchRouting(source(8, 512), flags, 0);
    const again = await benchRouting(source(8, 512), flags, 0);
    const other = await benchRouting(source(8, 512), flags, 7);
    expect(again.rows.map(routingFigures)).toEqual(first.rows.map(routingFigures));
    const figures = (row: (typeof first.rows)[number]) => [row.drops, row.layers];
    const changed = first.rows.filter(
      (row, i) => JSON.stringify(figures(row)) !== JSON.stringify(figures(other.rows[i]!)),
    );
    const random = first.rows.filter(({ name, priority }) => name === 'gshard' || priority === 'random');
    expect(changed.map(({ id }) => id)).toEqual(random.map(({ id }) => id));
  });
});

describe('the rule of a model', () => {
  it('keeps its own seed, and is another rule than the same with another one', () => {
    const own = presetOptions('v-moe', { seed: 5, score: { noise: null } });
    const twin = { ...source(8), baseline: { name: 'trained', options: [own] } };
    const both = chosen(twin, { presets: 'trained,v-moe', factors: 'none' }, 9).all;
    // Not alike: v-moe here has no random number, but others have.
    expect(both.filter((row) => row.capacity === 'own').map(({ name }) => name)).toEqual([
      'trained',
      'v-moe',
    ]);
    expect(chosen(twin, { presets: 'trained,v-moe', factors: 'none' }, 5).all[0]!.alsoKnownAs).toEqual([
      'v-moe',
    ]);
  });

  it('keeps its own noise; presets take the seed of the sweep, and no noise', () => {
    const own = presetOptions('v-moe', { seed: 5 });
    const model = { ...source(8), baseline: { name: 'trained', options: [own] } };
    const { all } = chosen(model, { presets: 'trained,v-moe', factors: 'none' }, 9);
    expect(baselineOf(model, { seed: 9 })!.options).toEqual([own]);
    expect(find(all, { name: 'trained', capacity: 'own' }).options).toEqual([own]);
    const [preset] = find(all, { name: 'v-moe', capacity: 'own' }).options;
    expect(preset).toMatchObject({ seed: 9, score: { function: 'softmax' } });
    expect(preset).not.toHaveProperty('score.noise');
  });
});

describe('axes', () => {
  it.each([
    [{ presets: 'mixtral,nothing' }, 'TURNOUT_PRESET_UNKNOWN', 'nothing'],
    [{ presets: 'trained' }, 'TURNOUT_PRESET_UNKNOWN', 'trained'],
    [{ factors: '1,0' }, 'TURNOUT_CAPACITY_INVALID', '"0"'],
    [{ factors: '1,' }, 'TURNOUT_CAPACITY_INVALID', '""'],
    [{ factors: 'Infinity' }, 'TURNOUT_CAPACITY_INVALID', 'Infinity'],
    [{ priorities: 'first' }, 'TURNOUT_OPTIONS_INVALID', 'first'],
    [{ overflows: 'keep' }, 'TURNOUT_OPTIONS_INVALID', 'keep'],
    [{ scopes: 'batch' }, 'TURNOUT_OPTIONS_INVALID', 'batch'],
  ])('refuse %j', (flags, code, named) => {
    expect(() => parseAxes(flags, undefined)).toThrow(
      expect.objectContaining({ code, message: expect.stringContaining(named) }),
    );
  });
});
