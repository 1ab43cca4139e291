import Type, { type Static } from 'typebox';
import { checker } from '../../src/schema.js';
import { runFields } from '../support/run-fields.js';

const spread = {
  medianMs: Type.Number(),
  p10Ms: Type.Number(),
  p90Ms: Type.Number(),
};

const Ratio = (description: string) => Type.Number({ description });

export const Shape = Type.Object({
  name: Type.Optional(Type.String()),
  experts: Type.Integer(),
  k: Type.Integer(),
  hidden: Type.Integer(),
  inner: Type.Integer(),
  dtype: Type.String(),
  group: Type.Optional(Type.Integer({ description: 'Values that share a scale; of int4.' })),
  activation: Type.String(),
});

const ContenderFigures = Type.Object({
  name: Type.String(),
  ...spread,
  ofLimit: Ratio('The limit divided by this median: 1 is as fast as the limit.'),
  ofOneLane: Ratio('The limit of one lane divided by this median.'),
  ofFloor: Ratio('The floor of all lanes divided by this median.'),
  ofLeast: Type.Optional(
    Ratio('The least layer divided by this median: on processes for those, on threads for others.'),
  ),
  toFused: Type.Union([Type.Number(), Type.Null()], {
    description: 'Median of the fused operator divided by this one: above 1 is faster than it.',
  }),
  difference: Type.Number({
    description:
      'Root mean square of the difference to what it is checked against, divided by that of the output.',
  }),
  stages: Type.Optional(
    Type.Record(Type.String(), Type.Number(), { description: 'Medians in milliseconds; of turnout alone.' }),
  ),
  aroundExperts: Type.Optional(
    Ratio('Gate, route, dispatch and combine as a share of the call: the median over the calls.'),
  ),
});
export type ContenderFigures = Static<typeof ContenderFigures>;

const LimitFigures = Type.Object({ ...spread, ofFloor: Ratio('The floor divided by this median.') });

const LeastFigures = (lanes: string) =>
  Type.Object(
    { ...spread, ofLimit: Ratio('The limit divided by this median.') },
    {
      description: `By hand on ${lanes}: the gate, the rule, the calls with their rows gathered and outputs given back, and their sum.`,
    },
  );

const CaseFigures = Type.Object({
  load: Type.String(),
  tokens: Type.Integer(),
  rows: Type.Array(Type.Integer(), { description: 'Of each expert that has any, most first.' }),
  flops: Type.Number(),
  bytes: Type.Number({ description: 'Weights that are read, once each, and rows in and out.' }),
  floor: Type.Object({ ms: Type.Number(), bound: Type.String() }),
  floorOneLane: Type.Object({ ms: Type.Number(), bound: Type.String() }),
  limit: Type.Object({ ...LimitFigures.properties, order: Type.String() }),
  limitOneLane: LimitFigures,
  least: Type.Optional(LeastFigures('threads')),
  leastProcesses: Type.Optional(LeastFigures('processes')),
  contenders: Type.Array(ContenderFigures),
  notes: Type.Array(Type.String()),
});
export type CaseFigures = Static<typeof CaseFigures>;

const MachineFigures = Type.Object({
  cacheBytes: Type.Integer(),
  bandwidthGBs: Type.Object({ one: Type.Number(), all: Type.Number() }),
  peakGflops: Type.Object({ one: Type.Number(), all: Type.Number() }),
});

const ShapeFigures = Type.Object({
  shape: Shape,
  asked: Type.Optional(Shape),
  weightBytes: Type.Number(),
  needBytes: Type.Number({ description: 'Memory of all copies of the weights.' }),
  machine: MachineFigures,
  versions: Type.Record(Type.String(), Type.String(), { description: 'Of rivals.' }),
  notes: Type.Array(Type.String()),
  cases: Type.Array(CaseFigures),
});
export type ShapeFigures = Static<typeof ShapeFigures>;

/** What `turnout bench layer --json` writes. */
export const Report = Type.Object({
  format: Type.Literal('turnout-bench-layer'),
  version: Type.Literal(1),
  notes: Type.Array(Type.String()),
  settings: Type.Record(Type.String(), Type.Unknown()),
  ...runFields,
  noise: Type.Object({
    clockStepMs: Type.Number({ description: 'The smallest step that the clock makes.' }),
    idle: Type.Number({
      description: 'The same calculation again and again before the run: p90 divided by p10.',
    }),
  }),
  shapes: Type.Array(ShapeFigures),
});
export type Report = Static<typeof Report>;

/** Throws TURNOUT_INPUT_INVALID for what is no report of this version. */
export const checkReport = checker(Report, 'TURNOUT_INPUT_INVALID', '--compare');
