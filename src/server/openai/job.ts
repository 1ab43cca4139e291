import { randomInt } from 'node:crypto';
import { TurnoutError } from '../../errors.js';
import type { RemoteGenerateOptions } from '../../model/engine-messages.js';
import { MAX_CHOICES, type SharedBody } from './schemas.js';

/** A prompt as text or as token ids. */
export type Prompt = string | readonly number[];

/** One request for completions: `prompts.length * n` sequences, numbered prompt by prompt. */
export interface Job {
  readonly prompts: readonly Prompt[];
  readonly n: number;
  /** To the end of the context where left out. */
  readonly maxTokens?: number;
  readonly sampling: RemoteGenerateOptions;
  /** How many alternatives to each token are told; undefined where not even its own log-probability is. */
  readonly logprobs?: number;
  /** The answer begins with the prompt. */
  readonly echo: boolean;
  readonly stream: boolean;
  /** A last event tells the usage. */
  readonly streamUsage: boolean;
  readonly routing: { readonly experts: boolean; readonly weights: boolean; readonly drops: boolean };
  readonly priority?: number | undefined;
  readonly timeoutMs?: number | undefined;
}

/** Seeds for requests that name none. */
const MAX_SEED = 2 ** 31;

type Own = Pick<Job, 'prompts' | 'echo'> & {
  readonly maxTokens: number | undefined;
  readonly logprobs: number | undefined;
};

/** A request's fields as a job; `own` is what completions and chats write differently. Throws TURNOUT_REQUEST_INVALID. */
export function jobOf(body: SharedBody, own: Own): Job {
  const { maxTokens, logprobs, ...rest } = own;
  const n = body.n ?? 1;
  if (rest.prompts.length * n > MAX_CHOICES) {
    const message = `expected at most ${MAX_CHOICES} prompts times n, got ${rest.prompts.length} times ${n}`;
    throw new TurnoutError('TURNOUT_REQUEST_INVALID', message, { param: 'n' });
  }
  return {
    ...rest,
    n,
    ...(maxTokens !== undefined && { maxTokens }),
    ...(logprobs !== undefined && { logprobs }),
    sampling: samplingOf(body, { logprobs, echo: rest.echo }),
    stream: body.stream ?? false,
    streamUsage: body.stream_options?.include_usage ?? false,
    routing: {
      experts: body.return_routed_experts ?? false,
      weights: body.return_routing_weights ?? false,
      drops: body.return_routing_drops ?? false,
    },
    priority: body.priority ?? undefined,
    timeoutMs: body.timeout_ms ?? undefined,
  };
}

function samplingOf(
  body: SharedBody,
  { logprobs, echo }: Pick<Own, 'logprobs' | 'echo'>,
): RemoteGenerateOptions {
  const { temperature, top_p: topP, top_k: topK, stop } = body;
  return {
    temperature: temperature ?? 1,
    topP: topP ?? 1,
    ...(topK != null && topK > 0 && { topK }),
    seed: body.seed ?? randomInt(MAX_SEED),
    ...(stop != null && { stop }),
    ...(logprobs !== undefined && { top: logprobs, scorePrompt: echo }),
    logprobs: logprobs !== undefined,
    ignoreEnd: body.ignore_eos ?? false,
  };
}
