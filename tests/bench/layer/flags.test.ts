import { describe, expect, it } from 'vitest';
import { type LayerFlags, optionsOf } from '../../../dist/bench/layer/flags.js';
import { CONTENDERS } from '../../../dist/bench/layer/names.js';
import { DEFAULT_SHAPE, GRID, modelShape } from '../../../dist/bench/layer/shapes.js';

/** As the command line gives them where nothing is written. */
const plain: LayerFlags = {
  tokens: '1,4',
  loads: 'even,skewed',
  contenders: CONTENDERS.join(),
  residency: 'packed',
  rounds: 9,
  seed: 1,
};

describe('what the options of bench layer ask for', () => {
  it('is a made-up layer, with the sizes that were written', async () => {
    expect((await optionsOf(plain)).shapes).toEqual([DEFAULT_SHAPE]);
    const sizes = { experts: 128, k: 8, hidden: 2048, inner: 768, dtype: 'int4' } as const;
    const shape = { ...DEFAULT_SHAPE, ...sizes };
    expect((await optionsOf({ ...plain, ...sizes })).shapes).toEqual([{ ...shape, group: 128 }]);
    expect((await optionsOf({ ...plain, ...sizes, inner: 96 })).shapes).toEqual([
      { ...shape, inner: 96, group: 32 },
    ]);
    expect((await optionsOf({ ...plain, ...sizes, group: 64 })).shapes).toEqual([{ ...shape, group: 64 }]);
  });

  it('is a known model, the grid, or a package', async () => {
    const model = await optionsOf({ ...plain, model: 'gpt-oss-20b', dtype: 'int4' });
    expect(model.shapes).toEqual([modelShape('gpt-oss-20b', 'int4')]);
    expect((await optionsOf({ ...plain, grid: true })).shapes).toEqual(GRID);
    const taken = await optionsOf({ ...plain, package: 'experts/babel', layer: 2 });
    expect(taken.shapes).toMatchObject([{ name: 'babel, layer 2', experts: 8, hidden: 128 }]);
  });

  it('has contenders in the order of the table, and a device for each lane', async () => {
    const options = await optionsOf({ ...plain, contenders: 'fused, inline', lanes: 3 });
    expect(options).toMatchObject({ contenders: ['inline', 'fused'], tokens: [1, 4], lanes: 3 });
    expect(options.devices).toHaveLength(3);
    expect((await optionsOf({ ...plain, devices: 'cpu:0,1,cpu:1' })).devices).toEqual(['cpu:0,1', 'cpu:1']);
  });

  it('has memory in bytes', async () => {
    expect((await optionsOf({ ...plain, memory: 2 })).memory).toBe(2 ** 31);
    expect((await optionsOf(plain)).memory).toBeGreaterThan(2 ** 26);
  });
});

describe('options that cannot be', () => {
  it.each<[Partial<LayerFlags>, RegExp]>([
    [{ experts: 0 }, /--experts: expected a whole number from 1/],
    [{ hidden: 65, dtype: 'int4' }, /--hidden: expected a multiple of 32 for int4, got 65/],
    [{ hidden: 96, dtype: 'int4', group: 64 }, /--hidden: expected a multiple of 64 for int4, got 96/],
    [{ dtype: 'int4', group: 48 }, /--group: expected 32, 64, 128, got 48/],
    [{ group: 32 }, /--group: needs --dtype int4/],
    [{ grid: true, group: 32 }, /--grid and --group/],
    [{ package: 'experts/babel', group: 32 }, /--package and --group/],
    [{ dtype: 'int4', residency: 'mapped' }, /--residency: int4 weights must be packed/],
    [{ tokens: '4,x' }, /--tokens: expected a whole number from 1 to 1048576, got NaN/],
    [{ tokens: '4,4' }, /--tokens: expected each once, got 4 twice/],
    [{ loads: 'odd' }, /--loads: expected some of even, skewed, got odd/],
    [{ contenders: 'me' }, /--contenders: expected some of auto, inline.* got me/],
    [{ lanes: 0 }, /--lanes: expected a whole number from 1/],
    [{ rounds: 0.5 }, /--rounds: expected a whole number from 1/],
    [{ seed: -1 }, /--seed: expected a whole number from 0/],
    [{ memory: 0 }, /--memory: expected GiB above zero, got 0/],
    [{ devices: 'cpu:x' }, /device: expected cpu/],
    [{ grid: true, k: 2 }, /--grid and --k: expected one of them/],
    [{ grid: true, dtype: 'int4' }, /--grid and --dtype/],
    [{ grid: true, model: 'olmoe-1b-7b' }, /--model and --grid: expected one of them/],
    [{ layer: 1 }, /--layer: needs --package/],
    [{ package: 'experts/babel', layer: 9 }, /--layer: expected 0 to 3, got 9/],
    [{ package: 'experts/babel', k: 1 }, /--package and --k/],
  ])('%j', async (flags, message) => {
    const invalid = expect.objectContaining({
      code: 'TURNOUT_OPTIONS_INVALID',
      message: expect.stringMatching(message),
    });
    await expect(optionsOf({ ...plain, ...flags })).rejects.toThrowError(invalid);
  });

  it('k above the experts', async () => {
    const code = 'TURNOUT_CHOICES_INVALID';
    await expect(optionsOf({ ...plain, experts: 4, k: 5 })).rejects.toMatchObject({ code });
  });
});
