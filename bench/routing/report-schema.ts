import Type, { type Static } from 'typebox';
import { checker } from '../../src/schema.js';
import { runFields } from '../support/run-fields.js';

const Counts = Type.Record(Type.String(), Type.Number());
const Nullable = Type.Union([Type.Number(), Type.Null()]);
const Losses = Type.Record(Type.String(), Nullable);

const Quality = Type.Object({
  bitsPerByte: Type.Number(),
  change: Type.Number({ description: 'Bits per byte above the rule that the model was trained with.' }),
  changeError: Type.Union([Type.Number(), Type.Null()], {
    description: 'Standard error of the change over the sequences; null for fewer than two.',
  }),
  domains: Type.Record(
    Type.String(),
    Type.Object({ bytes: Type.Integer(), bitsPerByte: Type.Number(), change: Type.Number() }),
  ),
  sequences: Type.Array(Type.Number(), { description: 'Bits of each sequence.' }),
});
export type Quality = Static<typeof Quality>;

const Drops = Type.Object({
  chosen: Type.Integer({ description: 'Assignments before drops, over all layers.' }),
  kept: Type.Integer(),
  dropped: Counts,
  dropRate: Type.Number(),
  tokensDropped: Type.Integer({
    description: 'Tokens that a layer gave no expert, summed over the layers: they keep their residual.',
  }),
  rerouted: Type.Integer({ description: 'Assignments that overflow moved to the next-best expert.' }),
});
export type Drops = Static<typeof Drops>;

const LayerFigures = Type.Object({
  name: Type.String(),
  load: Type.Array(Type.Number(), {
    description: '[E] chosen, before drops; where overflow moved one, its new expert.',
  }),
  kept: Type.Array(Type.Number()),
  dropped: Counts,
  dropRate: Type.Number(),
  losses: Losses,
  imbalance: Counts,
});

const Percentiles = Type.Object({ p50: Type.Number(), p99: Type.Number() });

const Spread = (description: string) =>
  Type.Object(
    {
      p10: Type.Number(),
      p50: Type.Number(),
      p90: Type.Number(),
      p99: Type.Number(),
      samples: Type.Integer(),
    },
    { description },
  );

const Times = Type.Object({
  tokensPerSecond: Type.Number(),
  call: Spread('Milliseconds of a call through the whole model; the spread is from p10 to p90.'),
  stages: Type.Record(Type.String(), Percentiles, {
    description: 'Milliseconds of each stage in one layer of a call; of the trunk, in the whole call.',
  }),
});
export type Times = Static<typeof Times>;

/** One row of the results. Everything but `times` is a routing figure: the same inputs and seed give it again to the last digit. */
export const Row = Type.Object({
  id: Type.String(),
  name: Type.String(),
  alsoKnownAs: Type.Array(Type.String(), { description: 'Other rules that decide the same here.' }),
  alike: Type.Integer({
    description: 'Combinations of the sweep that decide the same, and ran once: this one and others.',
  }),
  capacity: Type.Union([Type.Literal('own'), Type.Literal('swept')]),
  factor: Type.Union([Type.Number(), Type.Literal('none'), Type.Literal('fixed')]),
  priority: Type.String(),
  overflow: Type.String(),
  scope: Type.String(),
  choices: Type.Integer(),
  causal: Type.Boolean(),
  notCausalBecause: Type.Optional(Type.String()),
  options: Type.Array(Type.Unknown(), { description: 'Of each layer; one where all are alike.' }),
  tokens: Type.Integer(),
  quality: Type.Union([Quality, Type.Null()]),
  drops: Drops,
  load: Type.Record(Type.String(), Type.Number(), {
    description:
      'Of the load before drops, summed over the calls: means over the layers; dead: experts of all layers; callMaxVio: of each call, meaned.',
  }),
  losses: Losses,
  cost: Type.Union([
    Type.Object({ flopsPerToken: Type.Number(), bytesPerToken: Type.Number() }),
    Type.Null(),
  ]),
  layers: Type.Array(LayerFigures),
  times: Times,
});
export type Row = Static<typeof Row>;

const ReportRow = Type.Object({
  ...Row.properties,
  baseline: Type.Boolean(),
  onFront: Type.Boolean({
    description: 'No other row that may be there is as good and as cheap, and better in one.',
  }),
});
export type ReportRow = Static<typeof ReportRow>;

/** What `turnout bench routing --json` writes. */
export const Report = Type.Object({
  format: Type.Literal('turnout-bench-routing'),
  version: Type.Literal(1),
  notes: Type.Array(Type.String()),
  inputs: Type.String({ description: 'SHA-256 of all that decides the routing figures.' }),
  source: Type.Record(Type.String(), Type.Unknown()),
  settings: Type.Record(Type.String(), Type.Unknown()),
  sweep: Type.Object({
    tried: Type.Integer({ description: 'Combinations that were looked at.' }),
    refused: Type.Integer({ description: 'Those that cannot be.' }),
  }),
  ...runFields,
  reference: Spread(
    'Milliseconds of the first call of the first rule, measured again and again through the run: the noise of the machine.',
  ),
  causal: Type.Boolean({ description: 'Whether the model generates token by token.' }),
  broken: Type.Array(Type.Object({ name: Type.String(), id: Type.String(), message: Type.String() }), {
    description: 'Rules under which the model came to NaN or infinity.',
  }),
  rows: Type.Array(ReportRow),
});
export type Report = Static<typeof Report>;

/** Throws TURNOUT_INPUT_INVALID for what is no report of this version. */
export const checkReport = checker(Report, 'TURNOUT_INPUT_INVALID', '--compare');
export const checkRow = checker(Row, 'TURNOUT_INPUT_INVALID', '--resume');
