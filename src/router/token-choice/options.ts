import { type Static, Type } from 'typebox';
import { AdmitOptions, RenormaliseOptions, record, Seed } from '../stage-options.js';

const count = (minimum: number, description: string) => Type.Integer({ minimum, description });

export const NoiseOptions = Type.Union(
  [
    record(
      { kind: Type.Literal('learned') },
      'N(0,1) * softplus(noiseScale), the scale given by the gate (Shazeer et al. 2017, eq. 4).',
    ),
    record(
      { kind: Type.Literal('over-experts'), scale: Type.Number({ exclusiveMinimum: 0 }) },
      'N(0,1) * scale / E (V-MoE, eq. 2).',
    ),
  ],
  { description: 'Noise added to the logits; it chooses and weighs.' },
);

export const ScoreOptions = record(
  {
    function: Type.Enum(['softmax', 'sigmoid', 'sqrt-softplus', 'identity'], {
      description: 'Logits -> scores. softmax: over all experts.',
    }),
    bias: Type.Optional(
      Type.Array(Type.Number(), {
        description: '[E] added to the scores to choose by, never to weigh with (DeepSeek-V3, eq. 16).',
      }),
    ),
    noise: Type.Optional(NoiseOptions),
  },
  'Stage 1: scores of all experts.',
);
export type ScoreOptions = Static<typeof ScoreOptions>;

export const GroupOptions = record(
  {
    count: count(1, 'Groups of adjacent experts; divides E.'),
    keep: count(1, 'Best groups a token may take experts of.'),
    score: Type.Enum(['max', 'top2-sum'], {
      description:
        'Score of a group: its largest score (DeepSeek-V2, section 2.2.2), or the sum of its two largest (DeepSeek-V3).',
    }),
  },
  'Group-limited choice: experts outside the kept groups are masked with -infinity.',
);
export type GroupOptions = Static<typeof GroupOptions>;

export const LaterOptions = Type.Union(
  [
    record({ rule: Type.Literal('always') }, 'The k best (default).'),
    record(
      { rule: Type.Literal('random') },
      'A later choice stays where 2 * g > u: u its uniform number, g its share of the chosen scores (GShard, Algorithm 1).',
    ),
    record(
      { rule: Type.Literal('sampled') },
      'Later choices are drawn by softmax of the logits without those already chosen (fairseq, NLLB: "sampling").',
    ),
    record(
      {
        rule: Type.Literal('threshold'),
        threshold: Type.Number({ exclusiveMinimum: 0, maximum: 1 }),
      },
      'A later choice stays where g / threshold > u, so always from the threshold up (ST-MoE, Mesh TensorFlow).',
    ),
  ],
  { description: 'What becomes of the choices after the first.' },
);
export type LaterOptions = Static<typeof LaterOptions>;

export const SelectOptions = record(
  {
    k: count(1, 'Choices per token, 1 to E. A row with fewer allowed experts takes those.'),
    groups: Type.Optional(GroupOptions),
    later: Type.Optional(LaterOptions),
    ties: Type.Optional(
      Type.Enum(['lower', 'higher'], {
        description:
          'Which of equal experts comes first: the lower index (default); higher as ONNX Runtime on CPU.',
      }),
    ),
  },
  'Stage 2: the experts of each token.',
);
export type SelectOptions = Static<typeof SelectOptions>;

export const WeighOptions = record(
  {
    by: Type.Enum(['score', 'normalised', 'softmax'], {
      description:
        'score: as it is. normalised: divided by the sum of the chosen. softmax: over the chosen logits, which then also rank (softmax after top-k).',
    }),
    scale: Type.Optional(
      Type.Number({ exclusiveMinimum: 0, description: 'Multiplies the weights; 1 by default.' }),
    ),
    on: Type.Optional(
      Type.Enum(['output', 'input'], {
        description: 'Weights multiply the output of the expert (default), or its input (Llama 4).',
      }),
    ),
  },
  'Stage 3: weights of the chosen.',
);
export type WeighOptions = Static<typeof WeighOptions>;

export const ZeroComputationOptions = record(
  {
    zero: Type.Optional(count(0, 'Experts that give zeros.')),
    copy: Type.Optional(count(0, 'Experts that give their input.')),
    constant: Type.Optional(count(0, 'Experts that give a learned vector.')),
  },
  'Experts without computation, the last columns of the logits in this order (MoE++, section 3.1).',
);
export type ZeroComputationOptions = Static<typeof ZeroComputationOptions>;

/** Each token chooses its experts, in five stages. */
export const TokenChoiceOptions = record(
  {
    algorithm: Type.Literal('token-choice'),
    score: ScoreOptions,
    select: SelectOptions,
    weigh: WeighOptions,
    admit: Type.Optional(AdmitOptions),
    renormalise: Type.Optional(RenormaliseOptions),
    zeroComputation: Type.Optional(ZeroComputationOptions),
    seed: Type.Optional(Seed),
  },
  'Each token chooses its experts.',
);
export type TokenChoiceOptions = Static<typeof TokenChoiceOptions>;
