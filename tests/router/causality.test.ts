import { describe, expect, it } from 'vitest';
import { createRouter } from '#turnout/router/create.js';
import { plain, route } from '../support/routing.js';

describe('a router says whether it is causal, and why not', () => {
  const of = (admit?: object) => {
    const { causal, notCausalBecause } = createRouter(plain(admit ? { admit } : {}), 4);
    return { causal, because: notCausalBecause };
  };

  it('dropless, and a running capacity', () => {
    expect(of()).toEqual({ causal: true, because: undefined });
    expect(of({ factor: 1 })).toEqual({ causal: true, because: undefined });
    expect(of({ capacity: 2, overflow: 'next-best' }).causal).toBe(true);
  });

  it('not a capacity of the whole sequence', () => {
    expect(of({ factor: 1, scope: 'sequence' }).because).toMatch(
      /"sequence": the capacity comes from all rows/,
    );
    expect(of({ factor: 1, scope: 'sequence', priority: 'k-major' }).because).toMatch(
      /"k-major" lets later tokens/,
    );
  });

  it('not one of the whole call', () => {
    expect(of({ capacity: 1, scope: 'call' }).because).toMatch(/isolation is broken/);
    expect(createRouter(plain({ admit: { capacity: 1, scope: 'call' } }), 4).isolated).toBe(false);
    expect(createRouter(plain({ admit: { capacity: 1, scope: 'sequence' } }), 4).isolated).toBe(true);
  });

  it('and it is so: the first token of a sequence loses its place to a later one, or to a neighbour', () => {
    const admit = { capacity: 1, scope: 'call', priority: 'logit' };
    const rows = [
      [1, 0],
      [2, 0],
    ];
    const sequences = [{ length: 1 }, { length: 1 }];
    expect([...route(plain({ admit }), rows.slice(0, 1)).reason]).toEqual([0]);
    expect([...route(plain({ admit }), rows, { sequences }).reason]).toEqual([1, 0]);
    const own = { ...admit, scope: 'sequence' };
    expect([...route(plain({ admit: own }), rows, { sequences }).reason]).toEqual([0, 0]);
    expect([...route(plain({ admit: own }), rows).reason]).toEqual([1, 0]);
  });
});
