import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { openAuto } from '#turnout/experts/auto.js';
import type { ExpertBackend } from '#turnout/experts/backend.js';
import { wholeBatch } from '#turnout/experts/batches.js';
import { costsOf, msHere, msOnLanes } from '#turnout/experts/call-costs.js';
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
  const costs = { lanes: 2, batchMs: 0.5, rowMs: 0.02, wakeMs: 0.2, share: 0.6 };

  it('are those of the calls that they come from', () => {
    const times = {
      ...{ lanes: 2, batches: 4, rows: 32 },
      here: { one: msHere(costs, 1, 1), batches: msHere(costs, 4, 4), rows: msHere(costs, 4, 128) },
    };
    const there = { one: times.here.one + 0.2, batches: 0.2 + 0.6 * times.here.batches };
    const found = costsOf({ ...times, there });
    for (const key of ['lanes', 'batchMs', 'rowMs', 'wakeMs', 'share'] as const)
      expect(found[key]).toBeCloseTo(costs[key], 12);
  });

  it('are none that only noise can have made', () => {
    const here = { one: 5, batches: 3, rows: 2 };
    const { batchMs, rowMs, wakeMs, share } = costsOf({
      ...{ lanes: 4, batches: 8, rows: 32, here },
      there: { one: 1, batches: 100 },
    });
    expect(Math.min(batchMs, rowMs, wakeMs)).toBeGreaterThanOrEqual(0);
    expect(share).toBe(1);
  });

  it('send what lanes can share to them, and nothing else', () => {
    const faster = (batches: number, rows: number) =>
      msOnLanes(costs, batches, rows) < msHere(costs, batches, rows) ? 'lanes' : 'here';
    expect([faster(1, 1), faster(1, 16), faster(1, 64), faster(2, 2), faster(8, 8)]).toEqual([
      'here',
      'here',
      'lanes',
      'lanes',
      'lanes',
    ]);
    const small = { ...costs, batchMs: 0.01, rowMs: 0.001 };
    expect(msOnLanes(small, 8, 8)).toBeGreaterThan(msHere(small, 8, 8));
    expect(msOnLanes(small, 8, 2000)).toBeLessThan(msHere(small, 8, 2000));
  });
});
