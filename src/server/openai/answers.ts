import Type from 'typebox';
import { jsonAnswer } from '../answer-schemas.js';

const Model = Type.Object({
  id: Type.String(),
  object: Type.Literal('model'),
  created: Type.Integer({ description: 'Seconds since 1970.' }),
  owned_by: Type.String(),
});

const Usage = Type.Object({
  prompt_tokens: Type.Integer({ description: 'The begin token included.' }),
  completion_tokens: Type.Integer(),
  total_tokens: Type.Integer(),
});

const FinishReason = Type.Union([Type.Literal('stop'), Type.Literal('length')]);

const routed = {
  routed_experts_shape: Type.Optional(Type.Array(Type.Integer(), { description: '[tokens, layers, k]' })),
  routed_experts: Type.Optional(Type.String({ description: 'Base64 of int32.' })),
  routing_weights: Type.Optional(Type.String({ description: 'Base64 of float32.' })),
  routing_drops: Type.Optional(Type.String({ description: 'Base64 of uint8.' })),
};

const NullableNumber = Type.Union([Type.Number(), Type.Null()]);

const CompletionLogprobs = Type.Object({
  tokens: Type.Array(Type.String({ description: 'ASCII as it is, other bytes as bytes:\\xNN.' })),
  token_logprobs: Type.Array(NullableNumber),
  top_logprobs: Type.Array(Type.Union([Type.Record(Type.String(), Type.Number()), Type.Null()])),
  text_offset: Type.Array(Type.Integer()),
  bytes: Type.Array(Type.Array(Type.Integer())),
});

const answer = { id: Type.String(), created: Type.Integer(), model: Type.String() };

const Completion = Type.Object({
  ...answer,
  object: Type.Literal('text_completion'),
  choices: Type.Array(
    Type.Object({
      index: Type.Integer(),
      text: Type.String(),
      logprobs: Type.Union([CompletionLogprobs, Type.Null()]),
      finish_reason: FinishReason,
      ...routed,
    }),
  ),
  usage: Usage,
});

const ChatCompletion = Type.Object({
  ...answer,
  object: Type.Literal('chat.completion'),
  choices: Type.Array(
    Type.Object({
      index: Type.Integer(),
      message: Type.Object({ role: Type.Literal('assistant'), content: Type.String(), refusal: Type.Null() }),
      logprobs: Type.Union([
        Type.Object({ content: Type.Array(Type.Unknown()), refusal: Type.Null() }),
        Type.Null(),
      ]),
      finish_reason: FinishReason,
      ...routed,
    }),
  ),
  usage: Usage,
});

const events = {
  schema: Type.String({ description: 'Parts of the answer as server-sent events, where stream is true.' }),
};

/** What `/v1/models`, one model, completions and chat completions answer. */
export const ANSWERS = {
  models: jsonAnswer('The models', Type.Object({ object: Type.Literal('list'), data: Type.Array(Model) })),
  model: jsonAnswer('The model', Model),
  completion: {
    200: {
      description: 'The answers',
      content: { 'application/json': { schema: Completion }, 'text/event-stream': events },
    },
  },
  chat: {
    200: {
      description: 'The answers',
      content: { 'application/json': { schema: ChatCompletion }, 'text/event-stream': events },
    },
  },
};
