import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { openAuto } from '#turnout/experts/auto.js';
import type { ExpertBackend } from '#turnout/experts/backend.js';
import { wholeBatch } from '#turnout/experts/batches.js';
import { costOf, fitCosts } from '#turnout/experts/cost-line.js';
import { backendContract } from '../contracts/backend.contract.js';
import { type TemporaryExperts, temporaryExperts } from '../support/experts.js';

backendContract('auto', (files, options) => openAuto(files, { ...options, lanes: 2 }));

const HIDDEN = 64;
const call = (expert: number, rows: number) =>
  wholeBatch(expert, new Float32Array(rows * HIDDEN).fill(0.1), HIDDEN);

describe('a backend that chooses', () => {
  let set: TemporaryExperts;

  beforeAll(async () => {
    set = await temporaryExperts({ experts: 4, hidden: HIDDEN, inner: 256, activation: 'swiglu' });
  });
  afterAll(() => set.remove());

  const rowsOf = (backend: ExpertBackend) => backend.lanes().map(({ rows }) => rows);

  it('computes one row of a small expert in this thread, and many on the lanes', async () => {
    const choices = async () => {
      await using backend = await openAuto(set.files, { lanes: 2 });
      expect(rowsOf(backend)).toEqual([0, 0, 0]);
      await backend.run([call(1, 1)]);
      expect(rowsOf(backend)).toEqual([0, 0, 1]);
      await backend.run([0, 1, 2, 3].map((expert) => call(expert, 4000)));
      const [first, second, here] = rowsOf(backend);
      expect(first! + second! + here!).toBe(16_001);
      return here === 1;
    };
    // While others have the second core, two lanes are no faster than one thread.
    await expect.poll(choices, { timeout: 60_000 }).toBe(true);
  }, 70_000);

  it('takes the options of threads', async () => {
    await using backend = await openAuto(set.files, { lanes: 2, replicas: 1, residency: 'mapped' });
    expect(backend).toMatchObject({ kind: 'auto', experts: 4, hidden: HIDDEN, residency: 'mapped' });
    expect(backend.lanes().map(({ lane, experts }) => [lane, experts])).toEqual([
      [0, [0, 2]],
      [1, [1, 3]],
      [2, [0, 1, 2, 3]],
    ]);
    await expect(openAuto(set.files, { lanes: 0 })).rejects.toMatchObject({
      code: 'TURNOUT_OPTIONS_INVALID',
    });
  });
});

describe('the costs of calls', () => {
  it('are those of the calls that they come from', () => {
    const costs = { callMs: 0.2, batchMs: 0.5, rowMs: 0.03 };
    const samples = { batches: 4, rows: 32 };
    const fitted = fitCosts({
      ...samples,
      oneMs: costOf(costs, 1, 1),
      batchesMs: costOf(costs, 4, 4),
      rowsMs: costOf(costs, 4, 128),
    });
    for (const key of ['callMs', 'batchMs', 'rowMs'] as const)
      expect(fitted[key]).toBeCloseTo(costs[key], 12);
  });

  it('are never less than nothing', () => {
    const { callMs, batchMs, rowMs } = fitCosts({ batches: 4, rows: 32, oneMs: 5, batchesMs: 3, rowsMs: 2 });
    expect(Math.min(callMs, batchMs, rowMs)).toBeGreaterThanOrEqual(0);
  });
});
