import { describe, expect, it } from 'vitest';
import { combine } from '#turnout/router/combine.js';
import { createRouter } from '#turnout/router/create.js';
import { gatherRows } from '#turnout/router/dispatch.js';
import { planDispatch } from '#turnout/router/plan.js';
import type { Routing } from '#turnout/router/routing.js';
import { matrix } from '#turnout/tensor.js';
import { plain, route, vectors } from '../support/routing.js';

/** The router of the fused MoE operator: softmax, then top-k, ties to the higher index. */
const rule = (k: number, normalise: boolean) =>
  plain({
    score: { function: 'softmax' },
    select: { k, ties: 'higher' },
    weigh: { by: normalise ? 'normalised' : 'score' },
  });

const ACTIVATIONS: Record<string, (x: number) => number> = {
  relu: (x) => Math.max(0, x),
  silu: (x) => x / (1 + Math.exp(-x)),
  gelu: (x) => 0.5 * x * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (x + 0.044715 * x ** 3))),
};

/** weights [outer, inner] times x [inner], plus bias */
const apply = (weights: number[], x: number[], bias: number[] = []) =>
  Array.from({ length: weights.length / x.length }, (_, o) =>
    x.reduce((sum, value, i) => sum + value * weights[o * x.length + i]!, bias[o] ?? 0),
  );

// biome-ignore lint/suspicious/noExplicitAny: vectors of several shapes
function expert(c: any, e: number, x: number[]): number[] {
  const part = (values: number[] | undefined, size: number) => values?.slice(e * size, (e + 1) * size);
  const size = c.hidden_size * c.inter_size;
  const activate = ACTIVATIONS[c.attributes.activation_type]!;
  const up = apply(part(c.fc1_experts_weights, size)!, x, part(c.fc1_experts_bias, c.inter_size)).map(
    activate,
  );
  const gated = c.fc3_experts_weights
    ? apply(part(c.fc3_experts_weights, size)!, x).map((value, i) => value * up[i]!)
    : up;
  return apply(part(c.fc2_experts_weights, size)!, gated, part(c.fc2_experts_bias, c.hidden_size));
}

/** Routes, gathers, computes each expert by plain loops, combines. */
function runLayer(
  routing: Routing,
  x: number[],
  H: number,
  compute: (e: number, row: number[]) => number[],
): Float32Array {
  const plan = planDispatch(routing);
  const outputs = Array.from({ length: routing.experts }, (_, e) => {
    const n = plan.offsets[e + 1]! - plan.offsets[e]!;
    const rows = new Float32Array(n * H);
    gatherRows(plan, e, matrix(Float32Array.from(x), x.length / H, H), rows, 0);
    return Float32Array.from(
      Array.from({ length: n }, (_, r) => compute(e, [...rows.subarray(r * H, (r + 1) * H)])).flat(),
    );
  });
  return combine(plan, outputs, H).data;
}

const split = (values: number[], cols: number) =>
  Array.from({ length: values.length / cols }, (_, r) => values.slice(r * cols, (r + 1) * cols));

describe('the fused MoE operator of ONNX Runtime', () => {
  for (const c of vectors('ort_moe_op').cases) {
    it(c.name, () => {
      const { k, normalize_routing_weights: normalise, tol } = c.attributes;
      const routing = route(rule(k, normalise === 1), split(c.router_probs, c.num_experts));
      const y = runLayer(routing, c.input, c.hidden_size, (e, row) => expert(c, e, row));
      expect(y.length).toBe(c.output.length);
      c.output.forEach((value: number, i: number) => {
        expect(Math.abs(y[i]! - value)).toBeLessThan(tol * (1 + Math.abs(value)));
      });
    });
  }

  const small = Object.fromEntries(
    vectors('ort_moe_small').cases.map((entry: { name: string }) => [entry.name, entry]),
  );

  it('MoECpuTest_BasicSwiGLU', () => {
    const { MoECpuTest_BasicSwiGLU: c } = small;
    const routing = route(rule(c.attributes.k, true), split(c.router_probs, c.num_experts));
    const y = runLayer(routing, c.input, c.hidden_size, (_, row) => {
      const up = row.reduce((sum, value) => sum + value * c.fc1_fill, 0);
      const gate = Math.min(up, 7);
      const linear = Math.max(-7, Math.min(up, 7)) + c.attributes.activation_beta;
      const inner = (gate / (1 + Math.exp(-c.attributes.activation_alpha * gate))) * linear;
      return new Array(c.hidden_size).fill(inner * c.fc2_fill * c.inter_size);
    });
    c.output.forEach((value: number, i: number) => {
      expect(Math.abs(y[i]! - value)).toBeLessThan(c.tol * (1 + Math.abs(value)));
    });
  });

  it('QMoETest_CPU_RouterWeights: one tensor chooses, another weighs', () => {
    const { QMoETest_CPU_RouterWeights: c } = small;
    const E = c.num_experts;
    const chosen = route(rule(c.k, false), split(c.router_probs, E));
    for (const [normalise, expected] of [
      [false, c.expected_per_token_no_norm],
      [true, c.expected_per_token_norm],
    ] as const) {
      const weights = Array.from(
        chosen.expert,
        (e, a) => c.router_weights[chosen.token[a]! * E + e] as number,
      );
      const sums = [0, 1].map((t) =>
        weights.reduce((sum, weight, a) => sum + (chosen.token[a] === t ? weight : 0), 0),
      );
      const weight = Float32Array.from(weights, (value, a) =>
        normalise ? value / sums[chosen.token[a]!]! : value,
      );
      const y = runLayer({ ...chosen, weight }, [0, 0], 1, (e) => [c.expert_constant_outputs[e]]);
      expected.forEach((value: number, t: number) => {
        expect(y[t]).toBeCloseTo(value, 5);
      });
    }
  });

  it('MoECpuTest_KExceedsNumExperts', () => {
    const { MoECpuTest_KExceedsNumExperts: c } = small;
    expect(() => createRouter(rule(c.k, true), c.num_experts)).toThrow(
      expect.objectContaining({ code: 'TURNOUT_CHOICES_INVALID', message: expect.stringContaining('3') }),
    );
  });
});
