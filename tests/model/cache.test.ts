import { describe, expect, it } from 'vitest';
import { BlockPool, BlockTable, pagedView } from '#turnout/model/cache.js';

describe('BlockTable', () => {
  it('hands out the lowest free block and shrinks from the top', () => {
    const table = new BlockTable(64, 4);
    expect([table.take(), table.take(), table.take()]).toEqual([0, 1, 2]);
    table.release([1]);
    expect(table.high).toBe(3);
    expect(table.take()).toBe(1);
    table.release([0, 2, 1]);
    expect(table.high).toBe(0);
  });

  it('never hands out more than its limit', () => {
    const table = new BlockTable(64, 1);
    table.take();
    expect(() => table.take()).toThrow(RangeError);
  });
});

describe('BlockPool', () => {
  it('writes a row head by head and clears it without trace', () => {
    const pool = new BlockPool({ name: 'kv', kind: 'paged', heads: 2, size: 2, block: 3 });
    pool.write(1, 2, Float32Array.of(0, 0, 0, 0, 1, 2, 3, 4), Float32Array.of(0, 0, 0, 0, 5, 6, 7, 8), 1);
    const { k, v } = pool.view(2);
    expect([...k.subarray(12)]).toEqual([0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 3, 4]);
    expect([...v.subarray(12)]).toEqual([0, 0, 0, 0, 5, 6, 0, 0, 0, 0, 7, 8]);
    pool.clear([1]);
    expect(pool.view(2).k.every((value) => value === 0)).toBe(true);
  });
});

describe('pagedView', () => {
  const table = new BlockTable(2, 8);
  for (let i = 0; i < 4; i++) table.take();

  it('shows each row its own cached positions only', () => {
    const view = pagedView(table, [
      { blocks: [2, 0], cached: 3 },
      { blocks: [1], cached: 0 },
    ]);
    expect([...view.owner]).toEqual([0n, 0n, 0n, 0n]);
    expect([...view.mask].map((value) => value === 0)).toEqual([
      true,
      false,
      false,
      false,
      true,
      true,
      false,
      false,
    ]);
  });

  it('shows a chunk what is cached before it, and each of its rows the rows before', () => {
    const view = pagedView(table, [], { blocks: [3, 1], cached: 3, length: 2 });
    expect(view.owner.length).toBe(0);
    expect([...view.chunkBlocks]).toEqual([3n, 1n]);
    expect([...view.chunkMask]).toEqual([0, 0, 0, expect.closeTo(-1e9, -3)]);
    expect([...view.chunkCausal].map((value) => value === 0)).toEqual([true, false, true, true]);
  });
});
