import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { combine } from '#turnout/router/combine.js';
import { planDispatch } from '#turnout/router/plan.js';
import type { DispatchPlan } from '#turnout/router/routing.js';
import { ROOM_BYTES, shareMemory } from '#turnout/shared-memory.js';
import { matrix } from '#turnout/tensor.js';
import { plain, route } from '../support/routing.js';

const f = Math.fround;

/** The definition, in float32: assignments in plan order, then the shared outputs. */
function naive(plan: DispatchPlan, outputs: Float32Array[], H: number, shared: Float32Array[]) {
  const y = new Float32Array(plan.tokens * H);
  outputs.forEach((output, e) => {
    for (let a = plan.offsets[e]!; a < plan.offsets[e + 1]!; a++) {
      const weight = plan.weightsOn === 'input' ? 1 : plan.weights[a]!;
      const [to, from] = [plan.tokenIds[a]! * H, (a - plan.offsets[e]!) * H];
      for (let h = 0; h < H; h++) y[to + h] = f(y[to + h]! + f(weight * output[from + h]!));
    }
  });
  for (const output of shared)
    output.forEach((value, i) => {
      y[i] = f(y[i]! + value);
    });
  return y;
}

/** Random logits of T tokens, k choices, and outputs for the plan that they give. */
function call({
  T,
  E,
  k,
  H,
  seed,
  on = 'output',
  sharedExperts = 0,
}: {
  T: number;
  E: number;
  k: number;
  H: number;
  seed: number;
  on?: 'output' | 'input';
  sharedExperts?: number;
}) {
  let state = seed;
  const draw = () => Math.sin(state++ * 12.9898) * 3;
  const values = (length: number) => Float32Array.from({ length }, draw);
  const logits = Array.from({ length: T }, () => Array.from({ length: E }, draw));
  const options = plain({ select: { k }, weigh: { by: 'softmax', on } });
  const plan = planDispatch(route(options, logits));
  const outputs = Array.from({ length: E }, (_, e) => values((plan.offsets[e + 1]! - plan.offsets[e]!) * H));
  return { plan, outputs, H, shared: Array.from({ length: sharedExperts }, () => values(T * H)) };
}

function check({ plan, outputs, H, shared }: ReturnType<typeof call>): void {
  const expected = naive(plan, outputs, H, shared);
  for (const [where, all] of Object.entries(placed([...outputs, ...shared]))) {
    const before = all.map((rows) => rows.slice());
    const y = combine(plan, all.slice(0, outputs.length), H, { shared: all.slice(outputs.length) }).data;
    const differs = (a: Float32Array, b: Float32Array) => a.findIndex((value, i) => !Object.is(value, b[i]));
    expect(differs(expected, y), where).toBe(-1);
    for (const [i, rows] of all.entries())
      expect(differs(rows, before[i]!), `${where}, output ${i}`).toBe(-1);
  }
}

/** The same arrays where callers may have them. */
function placed(arrays: readonly Float32Array[]): Record<string, Float32Array[]> {
  return {
    'arrays of their own': [...arrays],
    'one memory': inOneMemory(arrays),
    'two memories': [...inOneMemory(arrays.slice(0, 1)), ...inOneMemory(arrays.slice(1))],
    'one memory and an array of its own': [...inOneMemory(arrays.slice(0, -1)), ...arrays.slice(-1)],
    'plain shared memory': arrays.map((array) => {
      const copy = new Float32Array(new SharedArrayBuffer(array.byteLength));
      copy.set(array);
      return copy;
    }),
  };
}

/** One behind the other, as near to the end of the memory as the data of a caller may be. */
function inOneMemory(arrays: readonly Float32Array[]): Float32Array[] {
  const bytes = arrays.reduce((sum, { byteLength }) => sum + byteLength, 0);
  const memory = shareMemory(bytes);
  let at = memory.byteLength - ROOM_BYTES - bytes;
  return arrays.map((array) => {
    const copy = new Float32Array(memory, at, array.length);
    copy.set(array);
    at += array.byteLength;
    return copy;
  });
}

describe('combine', () => {
  it('is the sum in float32 and in plan order, to the bit, for every width', () => {
    const sizes = fc.record({
      T: fc.integer({ min: 1, max: 9 }),
      E: fc.integer({ min: 3, max: 7 }),
      k: fc.integer({ min: 1, max: 3 }),
      H: fc.oneof(fc.integer({ min: 1, max: 21 }), fc.constantFrom(24, 32, 36, 64)),
      seed: fc.nat(),
      on: fc.constantFrom('output' as const, 'input' as const),
      sharedExperts: fc.integer({ min: 0, max: 2 }),
    });
    fc.assert(fc.property(sizes, (c) => check(call(c))));
  });

  it('gives the same bits where the rows do not fit one block', () => {
    check(call({ T: 700, E: 5, k: 3, H: 514, seed: 1, sharedExperts: 1 }));
    check(call({ T: 2, E: 3, k: 2, H: 400_000, seed: 2 }));
    check(call({ T: 300, E: 5, k: 3, H: 516, seed: 3, sharedExperts: 1 }));
  });

  it('gives zeros to a token without assignments, and nothing for no tokens', () => {
    const plan = planDispatch(route(plain(), [[Number.NaN], [2]]));
    expect([...combine(plan, [Float32Array.of(3, 5)], 2).data]).toEqual([0, 0, 6, 10]);
    const none = { ...plan, tokens: 0, tokenIds: new Int32Array(0), offsets: new Int32Array(2) };
    expect(combine(none, [new Float32Array(0)], 2)).toEqual({ rows: 0, cols: 2, data: new Float32Array(0) });
  });

  it('writes all of a matrix that it is given', () => {
    const plan = planDispatch(route(plain(), [[Number.NaN], [2]]));
    const into = matrix(new Float32Array(4).fill(99), 2, 2);
    expect(combine(plan, [Float32Array.of(3, 5)], 2, { into })).toBe(into);
    expect([...into.data]).toEqual([0, 0, 6, 10]);
  });

  it('passes what is not finite on to the token that it belongs to alone', () => {
    const plan = planDispatch(route(plain(), [[1], [1]]));
    const y = combine(plan, [Float32Array.of(Number.NaN, Infinity, 1, 2)], 2);
    expect([...y.data]).toEqual([Number.NaN, Infinity, 1, 2]);
  });
});
