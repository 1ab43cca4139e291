import type { Static } from 'typebox';
import { describe, expect, it } from 'vitest';
import { capacityOf } from '#turnout/router/capacity.js';
import type { FactorAdmit } from '#turnout/router/stage-options.js';
import { plain, route, vectors } from '../support/routing.js';

type Formula = NonNullable<Static<typeof FactorAdmit>['formula']>;

const COLUMNS: Record<string, Formula> = {
  'vmoe ceil(kT*cf/E) up to mult of 4': 'v-moe',
  'flaxformer max(4,round(cf*T/E)) (no k; python banker round)': 'flaxformer',
  'mesh-tf/st-moe-pytorch max(4,min(T,int(T*cf/E))) (no k)': 'mesh',
  'deepspeed MoE layer default max(min_capacity=4,ceil(T/E*cf*k))': 'deepspeed',
  'tutel k*int(cf*ceil(T/E))': 'tutel',
  'megatron ceil(T*k/E*cf)': 'megatron',
  'megablocks int(cf*k*T/E) (0 => dropless)': 'megablocks',
  'fastmoe gshard ceil(cf*T)*k//E': 'fastmoe',
};

describe('capacityOf', () => {
  const { rows } = vectors('derived_capacity');
  for (const [column, formula] of Object.entries(COLUMNS)) {
    it(`gives ${column}`, () => {
      for (const row of rows) {
        const capacity = capacityOf({ formula, factor: row.cf }, row.tokens, row.experts, row.k);
        expect([row, capacity]).toEqual([row, row[column]]);
      }
    });
  }

  it('is what a running capacity of scope request ends at', () => {
    for (const row of rows.slice(2)) {
      const options = plain({
        select: { k: row.k },
        admit: { factor: row.cf, formula: 'tutel', scope: 'request' },
      });
      const logits = Array.from({ length: row.tokens }, () => new Array(row.experts).fill(0));
      expect(route(options, logits).groups[0].capacity).toBe(row['tutel k*int(cf*ceil(T/E))']);
    }
  });

  it("gives V-MoE's own values", () => {
    const { cases } = vectors('vmoe_dispatch').cases.find(
      ({ name }: { name: string }) => name === 'compute_capacity',
    );
    for (const c of cases.filter(({ expected }: { expected?: number }) => expected !== undefined)) {
      const capacity = capacityOf(
        { formula: 'v-moe', factor: c.capacity_factor },
        c.num_tokens,
        c.num_experts,
        1,
      );
      expect(capacity).toBe(c.expected);
    }
  });

  it("refuses V-MoE's factor of -1", () => {
    const { cases } = vectors('vmoe_dispatch').cases.find(
      ({ name }: { name: string }) => name === 'compute_capacity',
    );
    const [c] = cases.filter(
      ({ expected_error }: { expected_error?: string }) => expected_error !== undefined,
    );
    expect(() => plain({ admit: { formula: 'v-moe', factor: c.capacity_factor } })).toThrow(
      /above 0, got -1/,
    );
  });

  it('truncates for switch and gshard, which has k in it', () => {
    expect(capacityOf({ formula: 'switch', factor: 1.25 }, 10, 4, 1)).toBe(3);
    expect(capacityOf({ formula: 'gshard', factor: 1 }, 10, 4, 2)).toBe(5);
    expect(capacityOf({ formula: 'gshard', factor: 1 }, 11, 4, 2)).toBe(5);
  });

  it('rounds halves to the even neighbour for flaxformer', () => {
    const at = (tokens: number) => capacityOf({ formula: 'flaxformer', factor: 1, minimum: 0 }, tokens, 2, 1);
    expect([1, 3, 5, 7].map(at)).toEqual([0, 2, 2, 4]);
  });

  it('lets a minimum replace that of the formula', () => {
    expect(capacityOf({ formula: 'deepspeed', factor: 1, minimum: 1 }, 4, 4, 1)).toBe(1);
    expect(capacityOf({ formula: 'megatron', factor: 1, minimum: 7 }, 4, 4, 1)).toBe(7);
    expect(capacityOf({ formula: 'fixed', capacity: 3 }, 400, 4, 1)).toBe(3);
  });
});
