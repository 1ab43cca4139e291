import { describe, expect, it } from 'vitest';
import { combine } from '#turnout/router/combine.js';
import { gatherRows } from '#turnout/router/dispatch.js';
import { planDispatch } from '#turnout/router/plan.js';
import type { Routing } from '#turnout/router/routing.js';
import { plain, route, table, vectors } from '../support/routing.js';

describe('planDispatch', () => {
  it('sorts the kept by expert, and keeps the order of tokens', () => {
    const options = plain({ select: { k: 2 }, admit: { formula: 'fixed', capacity: 2 } });
    const plan = planDispatch(
      route(options, [
        [1, 9, 5],
        [9, 1, 5],
        [9, 5, 1],
        [9, 5, 1],
      ]),
    );
    expect([...plan.offsets]).toEqual([0, 2, 4, 6]);
    expect([...plan.tokenIds]).toEqual([1, 2, 0, 2, 0, 1]);
    expect([...plan.weights]).toEqual([9, 9, 9, 5, 5, 5]);
    expect(plan.dropped).toEqual([
      { token: 3, choice: 0, expert: 0, reason: 'capacity' },
      { token: 3, choice: 1, expert: 1, reason: 'capacity' },
    ]);
  });
});

describe("V-MoE's einsum dispatcher", () => {
  const c = vectors('vmoe_dispatch').cases.find(({ name }: { name: string }) =>
    name.startsWith('einsum_dispatcher'),
  );
  const groups: number[][][][] = c.combine_weights_GSEC;
  const [S, E, C] = [groups[0].length, groups[0][0].length, groups[0][0][0].length];

  /** The routing that these combine weights say, with the rows of both groups in one call. */
  function routingOf(): Routing {
    const kept = groups.flatMap((rows, g) =>
      rows.flatMap((experts, s) =>
        experts.flatMap((slots, expert) =>
          slots.flatMap((weight, slot) => (weight === 0 ? [] : [{ token: g * S + s, expert, slot, weight }])),
        ),
      ),
    );
    const base = route(
      plain(),
      Array.from({ length: groups.length * S }, () => new Array(E).fill(0)),
    );
    return {
      ...base,
      choices: E * C,
      token: Int32Array.from(kept, ({ token }) => token),
      choice: Int32Array.from(kept, () => 0),
      expert: Int32Array.from(kept, ({ expert }) => expert),
      slot: Int32Array.from(kept, ({ slot }) => slot),
      weight: Float32Array.from(kept, ({ weight }) => weight),
      reason: new Uint8Array(kept.length),
    };
  }

  const x = table(c.data_GSD.flat());
  const routing = routingOf();
  const plan = planDispatch(routing);
  const rows = Array.from({ length: E }, (_, e) => {
    const into = new Float32Array((plan.offsets[e + 1] - plan.offsets[e]) * x.cols);
    gatherRows(plan, e, x, into, 0);
    return into;
  });

  it('gathers the same rows for each expert', () => {
    const dispatched = Array.from({ length: E }, () => new Array(groups.length * C).fill(0));
    routing.expert.forEach((e, a) => {
      const place = Math.floor(routing.token[a] / S) * C + routing.slot[a];
      const at = plan.assignments.indexOf(a) - plan.offsets[e];
      dispatched[e][place] = rows[e][at * x.cols];
    });
    const wanted = c.dispatched_E_GC_D.map((row: number[][]) => row.map(([first]) => first));
    expect(dispatched).toEqual(wanted);
  });

  it('combines what identity experts give to the same result', () => {
    const y = combine(plan, rows, x.cols);
    const wanted = c.combined_GSD_identity_experts.flat(2);
    expect([...y.data]).toEqual(wanted.map((value: number) => expect.closeTo(value, 5)));
  });
});
