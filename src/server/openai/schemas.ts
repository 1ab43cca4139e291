import Type, { type Static, type TSchema } from 'typebox';

/** Prompts times answers to each, at most: each is a sequence of its own. */
export const MAX_CHOICES = 128;
/** Alternatives to a token, at most. */
const MAX_TOP = 20;
const MAX_STOPS = 16;

const closed = { additionalProperties: false } as const;
const integer = (minimum: number, maximum: number, description?: string) =>
  Type.Integer({ minimum, maximum, ...(description !== undefined && { description }) });
/** OpenAI's clients send null for what is left out. */
const maybe = <S extends TSchema>(schema: S) => Type.Optional(Type.Union([schema, Type.Null()]));
/** Accepted with the value that changes nothing, so that clients which always send it work. */
const only = <V extends number | boolean>(value: V, name: string) =>
  maybe(Type.Literal(value, { description: `${name} other than ${value} is not supported.` }));

const Stop = Type.Union([
  Type.String({ minLength: 1 }),
  Type.Array(Type.String({ minLength: 1 }), { maxItems: MAX_STOPS }),
]);

/** What both kinds of completions take. */
const shared = {
  model: Type.Optional(Type.String()),
  frequency_penalty: only(0, 'A penalty'),
  presence_penalty: only(0, 'A penalty'),
  logit_bias: maybe(Type.Record(Type.String(), Type.Number(), { maxProperties: 0 })),
  n: maybe(integer(1, MAX_CHOICES)),
  seed: maybe(Type.Integer({ minimum: -(2 ** 53) + 1, maximum: 2 ** 53 - 1 })),
  stop: maybe(Stop),
  stream: maybe(Type.Boolean()),
  stream_options: maybe(
    Type.Object(
      { include_usage: Type.Optional(Type.Boolean()), include_obfuscation: Type.Optional(Type.Boolean()) },
      closed,
    ),
  ),
  temperature: maybe(Type.Number({ minimum: 0, maximum: 2 })),
  top_p: maybe(Type.Number({ exclusiveMinimum: 0, maximum: 1 })),
  top_k: maybe(Type.Integer({ minimum: -1, description: 'Samples from this many tokens; 0 or -1 for all.' })),
  user: maybe(Type.String()),
  ignore_eos: maybe(Type.Boolean({ description: 'Goes on after the end token.' })),
  priority: maybe(integer(0, 5, '1 goes first, 5 last; 0 for the default.')),
  timeout_ms: maybe(
    Type.Integer({ minimum: 1, maximum: 2 ** 31 - 1, description: 'For the whole request.' }),
  ),
  return_routed_experts: maybe(
    Type.Boolean({ description: 'Experts of each token: base64 of int32 [tokens, layers, k], -1 for none.' }),
  ),
  return_routing_weights: maybe(
    Type.Boolean({ description: 'Their weights: base64 of float32, 0 where dropped.' }),
  ),
  return_routing_drops: maybe(
    Type.Boolean({ description: 'Base64 of uint8: 0 kept, 1 capacity, 2 later choice, 3 bad row, 4 lost.' }),
  ),
};

const Tokens = Type.Array(Type.Integer({ minimum: 0 }), { minItems: 1 });

export const CompletionRequest = Type.Object(
  {
    ...shared,
    prompt: Type.Union([
      Type.String(),
      Type.Array(Type.String(), { minItems: 1, maxItems: MAX_CHOICES }),
      Tokens,
      Type.Array(Tokens, { minItems: 1, maxItems: MAX_CHOICES }),
    ]),
    max_tokens: maybe(integer(0, 2 ** 31 - 1, '16 where left out; 0 with echo scores the prompt.')),
    echo: maybe(Type.Boolean()),
    logprobs: maybe(integer(0, MAX_TOP)),
    best_of: maybe(integer(1, MAX_CHOICES, 'Must equal n.')),
    suffix: maybe(Type.Literal('', { description: 'A suffix is not supported.' })),
  },
  closed,
);

const ContentPart = Type.Object({ type: Type.Literal('text'), text: Type.String() }, closed);
const Message = Type.Object(
  {
    role: Type.Union(['system', 'developer', 'user', 'assistant'].map((role) => Type.Literal(role))),
    content: Type.Union([Type.String(), Type.Array(ContentPart)]),
    name: Type.Optional(Type.String()),
  },
  closed,
);

export const ChatRequest = Type.Object(
  {
    ...shared,
    messages: Type.Array(Message, { minItems: 1, maxItems: 4096 }),
    max_tokens: maybe(integer(1, 2 ** 31 - 1)),
    max_completion_tokens: maybe(integer(1, 2 ** 31 - 1, 'To the end of the context where left out.')),
    logprobs: maybe(Type.Boolean()),
    top_logprobs: maybe(integer(0, MAX_TOP)),
  },
  closed,
);

export type CompletionBody = Static<typeof CompletionRequest>;
export type ChatBody = Static<typeof ChatRequest>;
/** What both have. */
export type SharedBody = Omit<
  CompletionBody,
  'prompt' | 'logprobs' | 'echo' | 'best_of' | 'suffix' | 'max_tokens'
>;
