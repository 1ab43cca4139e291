import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  everywhere,
  type Piece,
  pieceCost,
  placementOf,
  placeOnDevices,
  spread,
} from '#turnout/experts/placement.js';

const MIN_PIECE = 16;
type Batch = { expert: number; rows: number };

const batchesOf = (rows: readonly number[]): Batch[] => rows.map((n, expert) => ({ expert, rows: n }));
const cost = (pieces: readonly Piece[]) => pieces.reduce((sum, { rows }) => sum + pieceCost(rows), 0);
const costs = (lanes: readonly Piece[][]) => lanes.map(cost);

const anyBatches = fc.array(fc.integer({ min: 1, max: 2000 }), { maxLength: 40 }).map(batchesOf);

describe('spread', () => {
  it('splits one busy expert evenly', () => {
    for (const lanes of [2, 3, 4, 7]) {
      const loads = costs(spread(batchesOf([1200]), everywhere(1, lanes)));
      expect(Math.max(...loads) - Math.min(...loads)).toBeLessThan(MIN_PIECE);
    }
  });

  it('ends together where one expert has most of the rows', () => {
    const loads = costs(spread(batchesOf([900, 10, 10, 10, 10, 10, 10, 10]), everywhere(8, 2)));
    expect(Math.abs(loads[0]! - loads[1]!)).toBeLessThan(2 * MIN_PIECE);
  });

  it('does not split what is small', () => {
    const whole = (batch: number, rows: number) => ({ batch, start: 0, rows, cost: pieceCost(rows) });
    expect(spread(batchesOf([1, 1, 1, 2]), everywhere(4, 2))).toEqual([
      [whole(0, 1), whole(2, 1)],
      [whole(1, 1), whole(3, 2)],
    ]);
  });

  it('leaves experts where they were, unless their lane would end later than another with one of them', () => {
    const experts = (...of: number[]) => of.map((expert) => ({ expert, rows: 1 }));
    const spreadOver = (of: Batch[]) =>
      spread(of, everywhere(8, 2)).map((pieces) => pieces.map(({ batch }) => of[batch]!.expert));
    expect(spreadOver(experts(1, 3, 4, 6))).toEqual([
      [4, 6],
      [1, 3],
    ]);
    expect(spreadOver(experts(1, 2, 3, 5, 7)).map((lane) => lane.length)).toEqual([2, 3]);
    expect(spreadOver(experts(1, 2, 3, 5, 7))[0]).toContain(2);
  });

  it('exchanges experts of two lanes where moving one would only change which of them is last', () => {
    const rows = [10, 16, 12, 18, 14, 20, 16, 22];
    const of = spread(batchesOf(rows), everywhere(8, 2));
    expect(of.map((lane) => lane.length)).toEqual([4, 4]);
    const [first, second] = costs(of);
    expect(Math.abs(first! - second!)).toBeLessThanOrEqual(2);
    const alone = { lanes: 2, replicas: rows.map((_, expert) => [expert % 2]) };
    expect(costs(spread(batchesOf(rows), alone))).toEqual([52, 76].map((n) => n + 4 * pieceCost(0)));
  });

  it('makes equal pieces of large batches where it is known what a call takes', () => {
    const sizes = (rows: number, callRows?: number) =>
      spread(batchesOf([rows]), everywhere(1, 1), { callRows })
        .flat()
        .map((piece) => piece.rows)
        .sort((a, b) => a - b);
    expect(sizes(256, 4)).toEqual([64, 64, 64, 64]);
    expect(sizes(300, 1)).toEqual([60, 60, 60, 60, 60]);
    expect(sizes(300, 10)).toEqual([150, 150]);
    expect(sizes(180, 4)).toEqual([60, 60, 60]);
    expect(sizes(2000)).toEqual([2000]);
  });

  it('counts what a call takes as it was measured', () => {
    const rows = [30, ...Array.from({ length: 10 }, () => 1)];
    const callsOf = (callRows?: number) =>
      spread(batchesOf(rows), everywhere(11, 2), { callRows }).map((lane) => lane.length);
    expect(callsOf()).toEqual([5, 6]);
    expect(callsOf(20)).toEqual([5, 6]);
    expect(callsOf(2)).toEqual([1, 10]);
  });

  it('hands out every row once, in pieces worth a call', () => {
    const callRows = fc.constantFrom(undefined, 0.5, 4, 20);
    fc.assert(
      fc.property(anyBatches, fc.integer({ min: 1, max: 9 }), callRows, (batches, lanes, callRows) => {
        const pieces = spread(batches, everywhere(batches.length, lanes), { callRows }).flat();
        for (const [i, { rows }] of batches.entries()) {
          const own = pieces.filter(({ batch }) => batch === i).sort((a, b) => a.start - b.start);
          let next = 0;
          for (const piece of own) {
            expect(piece.start).toBe(next);
            expect(piece.start % 2).toBe(0);
            if (own.length > 1) expect(piece.rows).toBeGreaterThanOrEqual(MIN_PIECE);
            next += piece.rows;
          }
          expect(next).toBe(rows);
        }
      }),
    );
  });

  it('keeps its longest lane within 4/3 of the best without splitting', () => {
    fc.assert(
      fc.property(
        fc.array(fc.integer({ min: 1, max: 300 }), { minLength: 1, maxLength: 7 }),
        fc.integer({ min: 2, max: 3 }),
        (rows, lanes) => {
          const loads = costs(spread(batchesOf(rows), everywhere(rows.length, lanes)));
          const whole = rows.map((n) => pieceCost(n));
          expect(Math.max(...loads)).toBeLessThanOrEqual((best(whole, lanes) * 4) / 3);
        },
      ),
    );
  });

  it('brings no lane far above the mean where rows can be moved', () => {
    fc.assert(
      fc.property(
        fc.array(fc.integer({ min: 64, max: 2000 }), { minLength: 1, maxLength: 20 }),
        fc.integer({ min: 2, max: 8 }),
        (rows, lanes) => {
          const loads = costs(spread(batchesOf(rows), everywhere(rows.length, lanes)));
          const mean = loads.reduce((a, b) => a + b) / lanes;
          expect(Math.max(...loads) - mean).toBeLessThan(3 * MIN_PIECE);
        },
      ),
    );
  });

  it('sends experts only to lanes that hold them', () => {
    const placement = { lanes: 3, replicas: [[0], [1, 2], [2]] };
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 1, max: 500 }), { minLength: 3, maxLength: 3 }), (rows) => {
        const batches = batchesOf(rows);
        for (const [lane, pieces] of spread(batches, placement).entries()) {
          for (const { batch } of pieces) expect(placement.replicas[batch]).toContain(lane);
        }
      }),
    );
  });

  it('prefers lanes that are not busy', () => {
    expect(spread(batchesOf([4]), everywhere(1, 3), { busy: [50, 50, 0] })).toEqual([
      [],
      [],
      [{ batch: 0, start: 0, rows: 4, cost: pieceCost(4) }],
    ]);
  });

  it('shares one busy expert among the lanes that are not busy', () => {
    const pieces = spread(batchesOf([300]), everywhere(1, 3), { busy: [500, 0, 0] });
    expect(pieces.map((lane) => lane.length)).toEqual([0, 1, 1]);
    expect(Math.abs(cost(pieces[1]!) - cost(pieces[2]!))).toBeLessThan(MIN_PIECE);
  });

  it('gives lanes as many rows as they are fast', () => {
    const pieces = spread(batchesOf([1200]), everywhere(1, 2), { paces: [1, 2] });
    const [fast, slow] = costs(pieces);
    expect(Math.abs(fast! - 2 * slow!)).toBeLessThan(2 * MIN_PIECE);
    // So slow that a piece is not worth its call there.
    expect(spread(batchesOf([100, 100]), everywhere(2, 2), { paces: [1, 100] })[1]).toEqual([]);
  });

  it('hands out every row once and brings no lane far above the others, whatever their paces and loads', () => {
    fc.assert(
      fc.property(
        fc.array(fc.integer({ min: 64, max: 2000 }), { minLength: 1, maxLength: 20 }),
        fc.array(fc.record({ pace: fc.double({ min: 0.25, max: 4, noNaN: true }), busy: fc.nat(3000) }), {
          minLength: 2,
          maxLength: 8,
        }),
        (rows, given) => {
          const busy = given.map((lane) => lane.busy);
          const paces = given.map((lane) => lane.pace);
          const pieces = spread(batchesOf(rows), everywhere(rows.length, given.length), { busy, paces });
          const sum = (all: readonly Piece[]) => all.reduce((total, piece) => total + piece.rows, 0);
          expect(sum(pieces.flat())).toBe(rows.reduce((a, b) => a + b));
          const ends = pieces.map((own, lane) => (busy[lane]! + cost(own)) * paces[lane]!);
          const used = ends.filter((_, lane) => pieces[lane]!.length > 0);
          const room = 4 * (MIN_PIECE + pieceCost(0)) * Math.max(...paces);
          expect(Math.max(...used) - Math.min(...ends)).toBeLessThan(room);
        },
      ),
    );
  });

  it('gives the same pieces for the same call', () => {
    fc.assert(
      fc.property(anyBatches, (batches) => {
        const placement = everywhere(batches.length, 4);
        expect(spread(batches, placement)).toEqual(spread(structuredClone(batches), placement));
      }),
    );
  });
});

describe('placeOnDevices', () => {
  it('makes one process for each expert on CPUs and one for each other device', () => {
    expect(placeOnDevices(4, { devices: ['cuda:0', 'cpu:0-1'] })).toEqual([
      { device: 'cuda:0', experts: [0, 2] },
      { device: 'cpu:0-1', experts: [1] },
      { device: 'cpu:0-1', experts: [3] },
    ]);
    expect(placeOnDevices(2, { devices: ['webgpu'], oneProcessPer: 'expert' })).toEqual([
      { device: 'webgpu', experts: [0] },
      { device: 'webgpu', experts: [1] },
    ]);
    expect(placeOnDevices(2, {})).toEqual([0, 1].map((expert) => ({ device: 'cpu', experts: [expert] })));
    // A device for which no expert is left has no process.
    expect(placeOnDevices(1, { devices: ['cuda:0', 'cuda:1'] })).toEqual([
      { device: 'cuda:0', experts: [0] },
    ]);
  });

  it('puts every replica of an expert on another device, as many on each as can be', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 40 }),
        fc.integer({ min: 1, max: 6 }),
        fc.nat(5),
        (experts, devices, more) => {
          const replicas = 1 + (more % devices);
          const names = Array.from({ length: devices }, (_, d) => `cuda:${d}`);
          const plan = placeOnDevices(experts, { devices: names, replicas });
          const { replicas: lanes } = placementOf(plan, experts);
          for (const own of lanes) expect(new Set(own).size).toBe(replicas);
          const held = names.map((name) => plan.find(({ device }) => device === name)?.experts.length ?? 0);
          expect(Math.max(...held) - Math.min(...held)).toBeLessThanOrEqual(replicas);
        },
      ),
    );
  });
});

/** The smallest possible cost of the longest of `lanes`, by trying every way. */
function best(jobs: readonly number[], lanes: number, loads: number[] = new Array(lanes).fill(0)): number {
  const [job, ...rest] = jobs;
  if (job === undefined) return Math.max(...loads);
  return Math.min(...loads.map((load, lane) => best(rest, lanes, loads.with(lane, load + job))));
}
