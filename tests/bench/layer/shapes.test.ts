import { describe, expect, it } from 'vitest';
import { fitShape, type Holders } from '../../../dist/bench/layer/budget.js';
import { CONTENDERS } from '../../../dist/bench/layer/names.js';
import {
  GRID,
  type LayerShape,
  MODEL_NAMES,
  modelShape,
  shapeBytes,
} from '../../../dist/bench/layer/shapes.js';

const GIB = 2 ** 30;
const all: Holders = { contenders: CONTENDERS, lanes: 2, devices: 2, residency: 'packed' };

describe('the sizes of known models', () => {
  it.each([
    // Routed experts of one layer, in float32: E x 3 x H x F x 4 bytes (2 matrices for relu).
    ['mixtral-8x7b', 8 * 3 * 4096 * 14336 * 4],
    ['olmoe-1b-7b', 64 * 3 * 2048 * 1024 * 4],
    ['qwen3-30b-a3b', 128 * 3 * 2048 * 768 * 4],
    ['deepseek-v3', 256 * 3 * 7168 * 2048 * 4],
    ['gpt-oss-20b', 32 * 3 * 2880 * 2880 * 4],
    ['switch-base-128', 128 * 2 * 768 * 3072 * 4],
  ] as const)('%s', (name, bytes) => {
    expect(MODEL_NAMES).toContain(name);
    expect(shapeBytes(modelShape(name, 'float32'))).toBe(bytes);
    // Four bits a value, and a scale of four bytes for 128 of them, or 32 where that does not divide.
    const group = name === 'gpt-oss-20b' ? 32 : 128;
    expect(shapeBytes(modelShape(name, 'int4'))).toBe((bytes / 4) * (0.5 + 4 / group));
  });
});

describe('the grid', () => {
  it.each([
    ['experts', [8, 64]],
    ['k', [2, 8]],
    ['hidden', [1024, 2048]],
    ['inner', [768, 2048]],
    ['dtype', ['float32', 'int4']],
    ['activation', ['relu', 'swiglu']],
    ['group', [undefined, 32, 128]],
  ] as const)('covers %s', (key, values) => {
    const covered = new Set<unknown>(GRID.map((shape) => shape[key]));
    expect(covered).toEqual(new Set<unknown>(values));
  });
});

describe('a layer in a budget of memory', () => {
  const olmoe = modelShape('olmoe-1b-7b', 'float32');

  it('stays as it is where it fits', () => {
    expect(fitShape(olmoe, all, 100 * GIB)).toMatchObject({
      shape: olmoe,
      contenders: CONTENDERS,
      notes: [],
    });
  });

  it('first has fewer experts, as many as fit, and says so', () => {
    const { shape, contenders, notes, needBytes } = fitShape(olmoe, all, 14 * GIB);
    expect(shape).toEqual({ ...olmoe, experts: 32 });
    expect(contenders).toEqual(CONTENDERS);
    expect(notes).toEqual([
      'scaled down from 64 to 32 experts to fit into 14.0 GiB of memory: an expert gets 2 times the rows that it would get',
    ]);
    expect(needBytes).toBeLessThanOrEqual(14 * GIB);
    expect(needBytes).toBeGreaterThan(5 * GIB);
  });

  it('then goes without contenders, and keeps twice k experts', () => {
    const { shape, contenders, notes, needBytes } = fitShape(olmoe, all, 4.5 * GIB);
    expect(shape.experts).toBe(16);
    expect(contenders).toEqual(['auto', 'inline', 'threads', 'fused']);
    expect(notes).toEqual([
      'scaled down from 64 to 16 experts to fit into 4.5 GiB of memory: an expert gets 4 times the rows that it would get',
      'torch left out: with it even 16 experts would not fit into 4.5 GiB',
      'dense left out: with it even 16 experts would not fit into 4.5 GiB',
      'processes left out: with it even 16 experts would not fit into 4.5 GiB',
    ]);
    expect(needBytes).toBeLessThanOrEqual(4.5 * GIB);
  });

  it('counts no copies where pages are shared', () => {
    const mapped = { ...all, residency: 'mapped', contenders: ['inline', 'threads', 'processes'] } as const;
    expect(fitShape(olmoe, mapped, 100 * GIB).needBytes).toBe(shapeBytes(olmoe));
  });

  it.each<[string, LayerShape, Holders, number]>([
    ['not even one contender fits', olmoe, all, 0.5 * GIB],
    ['it cannot be scaled', olmoe, { ...all, contenders: ['inline'], fixed: true }, 4 * GIB],
  ])('is refused where %s', (_, shape, holders, budget) => {
    const code = 'TURNOUT_OPTIONS_INVALID';
    expect(() => fitShape(shape, holders, budget)).toThrowError(expect.objectContaining({ code }));
  });
});
