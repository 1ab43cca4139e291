import { type Static, Type } from 'typebox';
import { RouterOptions } from '../router/options.js';
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
  },
  { additionalProperties: false, description: 'Output of `turnout route`.' },
);
export type RouteOutput = Static<typeof RouteOutput>;

/** A routing as the command prints it. */
export function describeRouting(
  routing: Routing,
  context: { preset: string | null; options: RouterOptions; router: Router },
): RouteOutput {
  const { preset, options, router } = context;
  const load = new Array<number>(routing.experts).fill(0);
  const kept = new Array<number>(routing.experts).fill(0);
  for (let a = 0; a < routing.expert.length; a++) {
    load[routing.expert[a]]++;
    if (routing.reason[a] === 0) kept[routing.expert[a]]++;
  }
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
    load,
    kept,
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
