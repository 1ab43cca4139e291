import { type Static, type TObject, type TProperties, Type } from 'typebox';

/*
 * The records of options that rules share. Each schema is the single source: of the TypeScript type, of the check
 * of what a user wrote, and of `turnout route --schema`.
 */

/** An object that takes no other keys: an unknown key is an error, never ignored. */
export function record<P extends TProperties>(properties: P, description: string): TObject<P> {
  return Type.Object(properties, { additionalProperties: false, description });
}

export const Factor = Type.Number({
  exclusiveMinimum: 0,
  description: 'Capacity factor. There is no factor for dropless: write "none".',
});

const Minimum = Type.Integer({
  minimum: 0,
  description:
    'Least capacity. The default is that of the formula: 4 for flaxformer, mesh and deepspeed, else 0.',
});

const competition = {
  priority: Type.Optional(
    Type.Enum(['token-major', 'k-major', 'batch-prioritised', 'probability', 'logit', 'random'], {
      description:
        'Who is admitted first. token-major (default): by token, then choice. k-major: all first choices, then all ' +
        'second ones, each by token (GShard Algorithm 1). batch-prioritised: k-major, tokens by descending largest ' +
        'score (V-MoE section 4). probability: by descending score (Megatron drop policy "probs"). logit: by ' +
        'descending logit (DeepSpeed drop policy "probs"). random: by descending uniform number (DeepSpeed random ' +
        'token selection). Equal values: the earlier token.',
    }),
  ),
  overflow: Type.Optional(
    Type.Enum(['drop', 'next-best'], {
      description:
        'What happens at a full expert. drop (default): the token keeps its residual. next-best: the best expert with ' +
        'room that the token may take and does not hold; the weight is that of the new expert.',
    }),
  ),
  scope: Type.Optional(
    Type.Enum(['request', 'sequence', 'call'], {
      description:
        'Whose tokens compete. request (default): running and causal; token n of a sequence is admitted while its ' +
        'expert has kept fewer than the capacity of n tokens. sequence: the rows of one sequence in this call. ' +
        'call: all rows of the call; what one user sends then changes what another gets.',
    }),
  ),
};

export const FactorAdmit = record(
  {
    factor: Factor,
    formula: Type.Optional(
      Type.Enum(
        [
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
        ],
        {
          description:
            'Capacity from T tokens, E experts, k choices and factor f. switch: floor(f*T/E). gshard: floor(f*k*T/E). ' +
            'v-moe: ceil(f*k*T/E) up to a multiple of 4. flaxformer: round-half-even(f*T/E). mesh: ' +
            'min(T, floor(f*T/E)). deepspeed, megatron (default): ceil(f*k*T/E). tutel: k*floor(f*ceil(T/E)). ' +
            'fastmoe: floor(ceil(f*T)*k/E). megablocks: floor(f*k*T/E).',
        },
      ),
    ),
    minimum: Type.Optional(Minimum),
    ...competition,
  },
  'A capacity that grows with the tokens.',
);

export const FixedAdmit = record(
  {
    formula: Type.Optional(Type.Literal('fixed')),
    capacity: Type.Integer({ minimum: 1, description: 'The most rows that an expert takes.' }),
    ...competition,
  },
  'A capacity given as a number.',
);

export const AdmitOptions = Type.Union([Type.Literal('none'), FactorAdmit, FixedAdmit], {
  description: 'Capacity. "none" (default): dropless.',
});
export type AdmitOptions = Static<typeof AdmitOptions>;
export type AdmitLimit = Exclude<AdmitOptions, 'none'>;

export const RenormaliseOptions = Type.Enum(['never', 'before-drop', 'after-drop'], {
  description:
    'Scale the weights of each token so that they sum to weigh.scale: never (default); before-drop: over all its ' +
    'choices (GShard Algorithm 1); after-drop: over those that were kept (DeepSpeed).',
});
export type RenormaliseOptions = Static<typeof RenormaliseOptions>;

export const Seed = Type.Integer({
  minimum: 0,
  maximum: Number.MAX_SAFE_INTEGER,
  description:
    'Keys the random numbers (0 where left out). Noise is added only where a seed or the noise itself is given: ' +
    'the cited models add it in training alone.',
});

export const Choices = Type.Integer({ minimum: 1, description: 'Choices per token, 1 to E.' });

export const WholeScope = Type.Enum(['sequence', 'call'], {
  description:
    'Whose tokens compete: the rows of one sequence in this call (default), or all rows of the call.',
});
