import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { combine } from '#turnout/router/combine.js';
import { createRouter } from '#turnout/router/create.js';
import { gatherRows } from '#turnout/router/dispatch.js';
import { planDispatch } from '#turnout/router/plan.js';
import { presetOptions } from '#turnout/router/presets.js';
import { type Layer, referenceMoe } from '../reference/moe.js';
import { table } from '../support/routing.js';

const E = 6;
const H = 3;
/** Expert e scales, shifts and bends its input in its own way. */
const experts = Array.from(
  { length: E },
  (_, e) => (x: readonly number[]) => x.map((value, h) => Math.tanh((e + 1) * value - h) + e),
);

const rules: [string, object, Omit<Layer, 'experts'>][] = [
  ['mixtral', {}, { score: 'softmax', k: 2, normalise: true }],
  ['olmoe', { select: { k: 3 } }, { score: 'softmax', k: 3, normalise: false }],
  ['qwen3-moe', { select: { k: 4 } }, { score: 'softmax', k: 4, normalise: true }],
  [
    'deepseek-v3',
    { select: { k: 2, groups: null } },
    { score: 'sigmoid', k: 2, normalise: true, scale: 2.5 },
  ],
  [
    'mixtral',
    { admit: { factor: 1, formula: 'megatron', minimum: 1, scope: 'request' } },
    {
      score: 'softmax',
      k: 2,
      normalise: true,
      capacity: (n) => Math.max(1, Math.ceil((n * 2) / E)),
      count: 'running',
    },
  ],
  [
    'switch',
    { admit: { factor: 1.25, formula: 'switch', minimum: 1, scope: 'sequence' } },
    {
      score: 'softmax',
      k: 1,
      normalise: false,
      capacity: (n) => Math.max(1, Math.floor((1.25 * n) / E)),
      count: 'whole',
    },
  ],
];

/** Logits in steps that no rounding can turn into a tie; `skew` draws all tokens to the first experts. */
const tokens = fc.record({
  skew: fc.constantFrom(0, 6),
  groups: fc.array(fc.integer({ min: 0, max: 9 }), { minLength: 1, maxLength: 4 }),
  seed: fc.infiniteStream(fc.integer({ min: -40, max: 40 })),
});

describe('router, plan, gather and combine together', () => {
  it.each(rules)('%s %j is the naive loop', (preset, overrides, layer) => {
    fc.assert(
      fc.property(tokens, ({ skew, groups, seed }) => {
        const T = groups.reduce((sum, length) => sum + length, 0);
        const draw = () => seed.next().value / 10;
        const logits = Array.from({ length: T }, () =>
          Array.from({ length: E }, (_, e) => draw() + e / 1000 - skew * e),
        );
        const x = Array.from({ length: T }, () => Array.from({ length: H }, draw));
        const expected = referenceMoe({ ...layer, experts }, x, logits, groups);

        const router = createRouter(presetOptions(preset, overrides), E);
        const routing = router.route({
          logits: table(logits, E),
          sequences: groups.map((length) => ({ length })),
        });
        const plan = planDispatch(routing);
        const outputs = experts.map((expert, e) => {
          const rows = new Float32Array((plan.offsets[e + 1]! - plan.offsets[e]!) * H);
          gatherRows(plan, e, table(x, H), rows, 0);
          const inputs = Array.from({ length: rows.length / H }, (_, r) => [
            ...rows.subarray(r * H, (r + 1) * H),
          ]);
          return Float32Array.from(inputs.flatMap((input) => expert(input)));
        });
        const y = combine(plan, outputs, H);
        expected.y.flat().forEach((value, i) => {
          expect(Math.abs(y.data[i]! - value)).toBeLessThan(1e-4 * (1 + Math.abs(value)));
        });
        expect(plan.tokenIds.length).toBe(expected.kept.flat().length);
      }),
      { numRuns: 60 },
    );
  });
});
