import { type Static, Type } from 'typebox';
import { LOSS_NAMES } from '../router/load-sums.js';
import type { LossContext } from '../router/losses.js';
import { RouterOptions } from '../router/options.js';
import { reportRouting } from '../router/report.js';
import { DROP_REASONS, type Router, type Routing } from '../router/routing.js';

const Natural = Type.Integer({ minimum: 0 });

/** One choice of one token. */
const Assignment = Type.Object(
  {
    token: Natural,
    choice: Type.Integer({ minimum: 0, description: '0 for the first choice.' }),
    expert: Natural,
    score: Type.Number({ description: 'What the weight comes from; no selection bias in it.' }),
    weight: Type.Number({ description: 'In combine; 0 where dropped.' }),
    slot: Type.Union([Natural, Type.Null()], {
      description: "Place in the expert's buffer of its capacity group; null where dropped.",
    }),
    dropped: Type.Union([Type.Literal(false), Type.Enum(DROP_REASONS.slice(1))], {
      description: 'false, or why.',
    }),
  },
  { additionalProperties: false },
);

const numbers = <const K extends readonly string[]>(keys: K) =>
  Object.fromEntries(keys.map((key) => [key, Type.Number()])) as Record<
    K[number],
    ReturnType<typeof Type.Number>
  >;

const Losses = Type.Object(
  {
    ...numbers(LOSS_NAMES.filter((name) => name !== 'smoothLoad')),
    smoothLoad: Type.Union([Type.Number(), Type.Null()], { description: 'null without noise.' }),
  },
  {
    additionalProperties: false,
    description:
      'Load balancing: switch (1 when balanced), hf (K when balanced), gshard (first choices only). Squared CV of ' +
      'importance, of load (population, sample) and of the smooth load under noise. z-loss. Sequence-wise (DeepSeek).',
  },
);

const Imbalance = Type.Object(
  {
    ...numbers(['cv', 'maxVio', 'minOverMean', 'balancedness', 'entropyBits', 'normalisedEntropy', 'gini']),
    dead: Natural,
  },
  { additionalProperties: false, description: 'Of the load before drops.' },
);

/** What `turnout route` prints. */
export const RouteOutput = Type.Object(
  {
    preset: Type.Union([Type.String(), Type.Null()]),
    options: RouterOptions,
    T: Natural,
    E: Natural,
    K: Natural,
    capacity: Type.Array(Type.Union([Type.Number({ minimum: 0 }), Type.Null()]), {
      description:
        'The most rows an expert takes, one per scope group: per sequence, or one for a call; null where dropless.',
    }),
    causal: Type.Boolean(),
    notCausalBecause: Type.Optional(Type.String()),
    assignments: Type.Array(Assignment, { description: 'By token, then by choice.' }),
    load: Type.Array(Natural, { description: '[E] tokens that chose each expert.' }),
    kept: Type.Array(Natural, { description: '[E] those that it kept.' }),
    losses: Losses,
    imbalance: Imbalance,
  },
  { additionalProperties: false, description: 'Output of `turnout route`.' },
);
export type RouteOutput = Static<typeof RouteOutput>;

/** A routing as the command prints it. */
export function describeRouting(
  routing: Routing,
  context: { preset: string | null; options: RouterOptions; router: Router; losses: LossContext },
): RouteOutput {
  const { preset, options, router } = context;
  const { load, kept, losses, imbalance } = reportRouting(routing, context.losses);
  return {
    preset,
    options,
    T: routing.tokens,
    E: routing.experts,
    K: routing.choices,
    capacity: routing.groups.map(({ capacity }) => (capacity === Infinity ? null : capacity)),
    causal: router.causal,
    ...(router.notCausalBecause !== undefined && { notCausalBecause: router.notCausalBecause }),
    assignments: Array.from(routing.token, (_, a) => describeAssignment(routing, a)),
    load: [...load],
    kept: [...kept],
    losses,
    imbalance,
  };
}

function describeAssignment(routing: Routing, a: number): Static<typeof Assignment> {
  const reason = DROP_REASONS[routing.reason[a]];
  return {
    token: routing.token[a],
    choice: routing.choice[a],
    expert: routing.expert[a],
    score: routing.score[a],
    weight: routing.weight[a],
    slot: routing.slot[a] < 0 ? null : routing.slot[a],
    dropped: reason === 'kept' ? false : reason,
  };
}
