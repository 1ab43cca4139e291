import fc from 'fast-check';
import { type OptionsOf, parseOptions } from '#turnout/router/options.js';

/** A rule, its E, and rows of logits for it. */
export interface Case {
  readonly options: OptionsOf<'token-choice'>;
  readonly E: number;
  readonly logits: number[][];
  readonly lengths: number[];
}

const FORMULAS = [
  'switch',
  'gshard',
  'v-moe',
  'flaxformer',
  'mesh',
  'deepspeed',
  'tutel',
  'fastmoe',
  'megablocks',
  'megatron',
];

const PRIORITIES = ['token-major', 'k-major', 'batch-prioritised', 'probability', 'logit', 'random'];

/** Capacities; `request` alone keeps to the running scope, `none` leaves capacity out. */
function admits(kind: 'any' | 'request' | 'none'): fc.Arbitrary<unknown> {
  if (kind === 'none') return fc.constant('none');
  const limit = fc.oneof(
    fc.record({
      factor: fc.double({ min: 0.25, max: 2, noNaN: true }),
      formula: fc.constantFrom(...FORMULAS),
      minimum: fc.integer({ min: 0, max: 3 }),
    }),
    fc.record({ formula: fc.constant('fixed'), capacity: fc.integer({ min: 1, max: 4 }) }),
  );
  const competition = fc
    .record({
      scope: fc.constantFrom(...(kind === 'request' ? ['request'] : ['request', 'sequence', 'call'])),
      priority: fc.constantFrom(...PRIORITIES),
      overflow: fc.constantFrom('drop', 'next-best'),
    })
    .map((c) => (c.scope === 'request' ? { ...c, priority: 'token-major' } : c));
  return fc.tuple(limit, competition).map(([a, b]) => ({ ...a, ...b }));
}

function rules(E: number, admit: 'any' | 'request' | 'none') {
  return fc.integer({ min: 1, max: Math.min(E, 4) }).chain((k) =>
    fc.record({
      algorithm: fc.constant('token-choice'),
      score: fc.oneof(
        fc.record({ function: fc.constantFrom('softmax', 'sigmoid', 'sqrt-softplus') }),
        fc.record({
          function: fc.constantFrom('softmax', 'sigmoid'),
          bias: fc.array(fc.double({ min: -1, max: 1, noNaN: true }), { minLength: E, maxLength: E }),
        }),
      ),
      select: fc.record(
        {
          k: fc.constant(k),
          ties: fc.constantFrom('lower', 'higher'),
          ...(k > 1 && {
            later: fc.constantFrom(
              { rule: 'always' },
              { rule: 'random' },
              { rule: 'sampled' },
              { rule: 'threshold', threshold: 0.2 },
            ),
          }),
          ...(E % 2 === 0 &&
            k <= E / 2 && {
              groups: fc.record({
                count: fc.constant(2),
                keep: fc.constant(1),
                score: fc.constantFrom('max', 'top2-sum'),
              }),
            }),
        },
        { requiredKeys: ['k'] },
      ),
      weigh: fc.record({
        by: fc.constantFrom('score', 'normalised', 'softmax'),
        scale: fc.constantFrom(1, 2.5),
      }),
      admit: admits(admit),
      renormalise: fc.constantFrom('never', 'before-drop', 'after-drop'),
      seed: fc.nat(),
    }),
  );
}

/** Logits from few values, so that ties are common; at most all but one forbidden. */
function rowsOf(E: number, T: number) {
  const row = fc
    .tuple(
      fc.array(fc.integer({ min: -3, max: 3 }), { minLength: E, maxLength: E }),
      fc.subarray([...Array(E).keys()], { maxLength: E - 1 }),
      fc.boolean(),
    )
    .map(([values, forbidden, mask]) =>
      values.map((v, e) => (mask && forbidden.includes(e) ? -Infinity : v / 2)),
    );
  return fc.array(row, { minLength: T, maxLength: T });
}

/** Cases of token choice: any rule, sequences of any lengths. */
export function cases(admit: 'any' | 'request' | 'none' = 'any'): fc.Arbitrary<Case> {
  return fc
    .tuple(
      fc.integer({ min: 2, max: 8 }),
      fc.array(fc.integer({ min: 0, max: 7 }), { minLength: 1, maxLength: 4 }),
    )
    .chain(([E, lengths]) =>
      fc
        .tuple(
          rules(E, admit),
          rowsOf(
            E,
            lengths.reduce((a, b) => a + b, 0),
          ),
        )
        .map(([options, logits]) => ({
          options: parseOptions(options) as OptionsOf<'token-choice'>,
          E,
          logits,
          lengths,
        })),
    );
}
