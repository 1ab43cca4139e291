import { describe, expect, it } from 'vitest';
import { createRouter } from '#turnout/router/create.js';
import { planDispatch } from '#turnout/router/plan.js';
import { presetOptions } from '#turnout/router/presets.js';
import { evenCall } from '../../../dist/bench/scale/calls.js';
import { type ScaleFlags, settingsOf } from '../../../dist/bench/scale/settings.js';
import { scale } from '../../../dist/bench/scale.bench.js';

const DEFAULTS: ScaleFlags = {
  experts: '2,8',
  k: 2,
  rows: 3,
  hidden: 32,
  inner: 16,
  backend: 'inline,threads',
  residency: 'mapped',
  rounds: 2,
};
const settings = (flags: Partial<ScaleFlags> = {}) => settingsOf({ ...DEFAULTS, ...flags }, 2);

describe('bench scale', () => {
  it('gives each expert as many rows, however many there are', () => {
    for (const [experts, k] of [
      [4, 2],
      [8, 2],
      [64, 8],
    ] as const) {
      const { x, logits } = evenCall(experts, settings({ k, experts: '8,64' }));
      const router = createRouter(presetOptions('mixtral', { select: { k } }), experts);
      const { offsets } = planDispatch(router.route({ logits }));
      const rows = Array.from({ length: experts }, (_, e) => offsets[e + 1]! - offsets[e]!);
      expect(rows).toEqual(new Array(experts).fill(rows[0]));
      expect(x.rows * k).toBe(rows[0] * experts);
      expect(rows[0]).toBe(3);
    }
  });

  it('tells the cost of a token beside that with the least experts', async () => {
    const report = await scale(settings());
    const ids = ['inline, 2 experts', 'threads, 2 experts', 'inline, 8 experts', 'threads, 8 experts'];
    expect(report.rows.map(({ id }) => id)).toEqual(ids);
    expect(report.rows[0]!.figures['of the least experts']).toEqual({ median: 1, least: 1, most: 1 });
    for (const { figures } of report.rows) {
      const [token, compute] = [figures['us/token']!.median, figures['compute us/token']!.median];
      expect(compute).toBeGreaterThan(0);
      expect(token).toBeGreaterThanOrEqual(compute * 0.5);
    }
    expect(report.notes[0]).toMatch(/^2 experts are .* times the last cache/);
    expect(report.notes[1]).toMatch(/nearly in the cache/);
  });

  it('ends when it is told to', async () => {
    const signal = AbortSignal.abort(new Error('enough'));
    await expect(scale(settings(), { signal })).rejects.toThrow('enough');
  });

  it.each<[Partial<ScaleFlags>, string]>([
    [{ experts: '8,4' }, 'TURNOUT_OPTIONS_INVALID'],
    [{ experts: '4,x' }, 'TURNOUT_OPTIONS_INVALID'],
    [{ k: 3 }, 'TURNOUT_CHOICES_INVALID'],
    [{ rows: 0 }, 'TURNOUT_OPTIONS_INVALID'],
    [{ backend: 'processes' }, 'TURNOUT_OPTIONS_INVALID'],
    [{ replicas: 3 }, 'TURNOUT_OPTIONS_INVALID'],
  ])('refuses %j', (flags, code) => {
    expect(() => settings(flags)).toThrow(expect.objectContaining({ code }));
  });
});
