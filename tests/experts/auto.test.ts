import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { openAuto } from '#turnout/experts/auto.js';
import type { ExpertBackend, ExpertFile, Residency } from '#turnout/experts/backend.js';
import { wholeBatch } from '#turnout/experts/batches.js';
import { CallChooser } from '#turnout/experts/call-chooser.js';
import { type CallCosts, callRowsOf, costsOf, expectedOf, type Way } from '#turnout/experts/call-costs.js';
import { joinedBy } from '#turnout/experts/here-lane.js';
import { openInline } from '#turnout/experts/inline.js';
import { LanesBackend } from '#turnout/experts/lanes-backend.js';
import { pieceRowsOf } from '#turnout/experts/placement.js';
import { openThreadLanes } from '#turnout/experts/threads.js';
import { backendContract } from '../contracts/backend.contract.js';
import { type TemporaryExperts, temporaryExperts } from '../support/experts.js';

backendContract('auto', (files, options) => openAuto(files, { ...options, lanes: 2 }));

/** What takes the calls of `auto` that this thread and others share, whatever they cost. */
async function openJoined(files: readonly ExpertFile[], options: { residency: Residency }) {
  const { generation, info } = await openThreadLanes(files, { ...options, lanes: 2 });
  const inline = await openInline(files, options);
  class Joined extends LanesBackend {
    protected override async closeLanes(): Promise<void> {
      await super.closeLanes();
      await inline.close();
    }
  }
  return new Joined(joinedBy(inline, generation), { ...info, kind: 'auto' });
}
backendContract('auto', openJoined, 'auto, this thread beside others');

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
      return first! > 0;
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

const costs: CallCosts = {
  ...{ lanes: 2, batchMs: 0.5, rowMs: 0.02 },
  joined: { fixedMs: 0.1, share: 0.75 },
  threads: { fixedMs: 0.4, share: 0.75 },
};

const MOST = { pieceMs: 5, callMs: 20 };

describe('the costs of calls', () => {
  const batches = { few: 4, many: 16 };
  const here = (count: number, rows: number) => count * costs.batchMs + count * rows * costs.rowMs;
  const timesOf = ({ fixedMs, share }: CallCosts['joined']) => ({
    few: fixedMs + share * here(batches.few, 1),
    many: fixedMs + share * here(batches.many, 1),
  });

  it('are those of the calls that they come from', () => {
    const found = costsOf({
      ...{ lanes: 2, batches, rows: 32 },
      here: { few: here(4, 1), many: here(16, 1), rows: here(4, 32) },
      joined: timesOf(costs.joined),
      threads: timesOf(costs.threads),
    });
    expect(found.batchMs).toBeCloseTo(costs.batchMs, 12);
    expect(found.rowMs).toBeCloseTo(costs.rowMs, 12);
    for (const way of ['joined', 'threads'] as const)
      for (const key of ['fixedMs', 'share'] as const)
        expect(found[way][key]).toBeCloseTo(costs[way][key], 12);
  });

  it('are none that only noise can have made', () => {
    const found = costsOf({
      ...{ lanes: 4, batches, rows: 32 },
      here: { few: 5, many: 3, rows: 2 },
      joined: { few: 9, many: 100 },
      threads: { few: 1, many: 0.5 },
    });
    expect(found.rowMs).toBe(0);
    expect(found.joined.share).toBe(1);
    expect(found.threads).toEqual({ fixedMs: 0, share: 0.25 });
  });

  it('are those of no piece in this thread that takes longer than it may', () => {
    const [joined, inline] = (['joined', 'inline'] as const).map(
      (way) => (batches: number, rows: number, most: number) =>
        expectedOf(costs, { batches, rows, most }, MOST)[way],
    );
    // 0.5 + 225 rows of 0.02 ms are a piece of 5 ms; halves of one batch of twice as many.
    expect(joined!(1, 450, 450)).toBeLessThan(Infinity);
    expect(joined!(1, 452, 452)).toBe(Infinity);
    expect(joined!(8, 800, 225)).toBeLessThan(Infinity);
    expect(joined!(8, 800, 226)).toBe(Infinity);
    expect(inline!(1, 225, 225)).toBeLessThan(Infinity);
    expect(inline!(1, 226, 226)).toBe(Infinity);
  });

  it('are those of no call in this thread that takes longer than it may', () => {
    const expected = (rows: number) => expectedOf(costs, { batches: 8, rows, most: 200 }, MOST);
    const ways = (['inline', 'joined', 'threads'] as const).filter((way) => expected(1500)[way] < Infinity);
    // 4 ms for the batches and 0.02 for each row here, and at least half of that in two lanes.
    expect(expected(799).inline).toBeLessThan(Infinity);
    expect(expected(801).inline).toBe(Infinity);
    expect(expected(1500).joined).toBeLessThan(Infinity);
    expect(expected(2000).joined).toBe(Infinity);
    expect(ways).toEqual(['joined', 'threads']);
  });
});

describe('the rows of a piece', () => {
  it('take sixteen times as long as its call, and are never so few that each takes longer', () => {
    const pieceRows = (batchMs: number, rowMs: number) => pieceRowsOf(callRowsOf({ batchMs, rowMs }));
    expect(pieceRows(1, 0.05)).toBe(320);
    expect(pieceRows(0.1, 0.05)).toBe(64);
  });

  it('are many where rows seem to cost nothing', () => {
    expect(callRowsOf({ batchMs: 0.1, rowMs: 0 })).toBe(1024);
  });

  it('bound the piece that this thread would compute', () => {
    // 1,000 rows in pieces of 64, or half as many again, which take 2.9 ms.
    const quick = { ...costs, batchMs: 0.05, rowMs: 0.03 };
    const joined = (mostMs: number) =>
      expectedOf(quick, { batches: 1, rows: 1000, most: 1000 }, { pieceMs: mostMs, callMs: 20 }).joined;
    expect(joined(3)).toBeLessThan(Number.POSITIVE_INFINITY);
    expect(joined(2.5)).toBe(Number.POSITIVE_INFINITY);
  });
});

describe('the choice of a way', () => {
  const chooser = () => new CallChooser(costs, MOST);
  const rowsOf = (batches: number, rows: number, most = rows) => ({ batches, rows, most });
  /** Ways of so many calls of two rows each, which take `ms` each way. */
  const waysOf = (chooser: CallChooser, calls: number, ms: Record<Way, number>) =>
    Array.from({ length: calls }, () => {
      const { way, took } = chooser.choose(rowsOf(2, 2, 1));
      took(ms[way]);
      return way;
    });
  const count = (ways: readonly Way[], way: Way) => ways.filter((taken) => taken === way).length;

  it('keeps one row here, shares what is worth it, and large pieces among the threads', () => {
    const where = (batches: number, rows: number, most = rows) =>
      chooser().choose(rowsOf(batches, rows, most)).way;
    expect([where(1, 1), where(1, 16), where(1, 100), where(2, 2, 1), where(1, 452)]).toEqual([
      'inline',
      'inline',
      'joined',
      'joined',
      'threads',
    ]);
    expect(new CallChooser({ ...costs, lanes: 1 }, MOST).choose(rowsOf(8, 8, 1)).way).toBe('inline');
  });

  it('goes where calls are over sooner than the costs say, and comes back', () => {
    const learning = chooser();
    expect(learning.choose(rowsOf(2, 2, 1)).way).toBe('joined');
    const here = { inline: 0.5, joined: 0.85, threads: 1.2 };
    waysOf(learning, 128, here);
    expect(count(waysOf(learning, 2048, here), 'inline')).toBeGreaterThan(1900);
    const elsewhere = { ...here, inline: 1.5 };
    waysOf(learning, 128, elsewhere);
    expect(count(waysOf(learning, 2048, elsewhere), 'joined')).toBeGreaterThan(1900);
  });

  it('tries each way in the first runs of 32 calls, and then the others in turns, in one of 16', () => {
    const learning = chooser();
    const expected = expectedOf(costs, rowsOf(2, 2, 1), MOST);
    const runs = (count: number) =>
      Array.from({ length: count }, () => {
        const ways = new Set(waysOf(learning, 32, expected));
        expect(ways.size).toBe(1);
        return [...ways][0];
      });
    expect(runs(3)).toEqual(['joined', 'inline', 'threads']);
    const tried = [...runs(16), ...runs(16)].filter((way) => way !== 'joined');
    expect(tried).toEqual(['inline', 'threads']);
  });

  it('learns nothing from the first calls of a run', () => {
    const learning = chooser();
    for (let call = 0; call < 320; call++) {
      const { way, took } = learning.choose(rowsOf(2, 2, 1));
      // Slower than every other way, until it is warm.
      if (way === 'joined') took(call % 32 < 16 ? 100 : 0.5);
      else took(0.8);
    }
    expect(learning.choose(rowsOf(2, 2, 1)).way).toBe('joined');
  });

  it('finds a way that is quick where the costs put it at more than twice the best', () => {
    const disturbed = new CallChooser({ ...costs, joined: { fixedMs: 2, share: 0.5 } }, MOST);
    const ms = { inline: 1, joined: 0.6, threads: 1.2 };
    expect(disturbed.choose(rowsOf(2, 2, 1)).way).not.toBe('joined');
    waysOf(disturbed, 31 + 256, ms);
    expect(count(waysOf(disturbed, 1024, ms), 'joined')).toBeGreaterThan(900);
  });

  it('tries nothing that takes more than three times as long by the costs, and nothing with long calls', () => {
    const far = new CallChooser({ ...costs, threads: { fixedMs: 4, share: 0.75 } }, MOST);
    const ways = Array.from({ length: 1024 }, () => far.choose(rowsOf(2, 2, 1)).way);
    expect(new Set(ways)).toEqual(new Set(['joined', 'inline']));
    const long = chooser();
    const longWays = Array.from({ length: 256 }, () => long.choose(rowsOf(4, 64, 16)).way);
    expect(new Set(longWays)).toEqual(new Set(['joined']));
  });

  it('learns of calls of one length nothing for those of another, nor from one odd call', () => {
    const learning = chooser();
    const expected = expectedOf(costs, rowsOf(2, 2, 1), MOST);
    waysOf(learning, 20, expected);
    learning.choose(rowsOf(2, 2, 1)).took(1000);
    waysOf(learning, 11 + 64, expected);
    expect(learning.choose(rowsOf(2, 2, 1)).way).toBe('joined');
    waysOf(learning, 31 + 96, { inline: 0.5, joined: 4, threads: 4 });
    expect(learning.choose(rowsOf(2, 2, 1)).way).toBe('inline');
    expect(learning.choose(rowsOf(1, 60)).way).toBe('joined');
  });
});
