import type { ChatMessage } from '../../model/chat-template.js';
import type { GenerateResult, Piece } from '../../model/generate.js';
import { finishReason } from './generations.js';
import { type Job, jobOf } from './job.js';
import { routedFields } from './routed.js';
import type { ChatBody } from './schemas.js';
import type { Shape } from './shape.js';
import { chatLogprobs } from './tokens.js';

/** The body of /v1/chat/completions as a job; `render` makes a prompt of its messages. Throws TURNOUT_REQUEST_INVALID. */
export function chatJob(body: ChatBody, render: (messages: readonly ChatMessage[]) => string): Job {
  const messages = body.messages.map(({ role, content, name }) => ({
    role,
    ...(name !== undefined && { name }),
    content: typeof content === 'string' ? content : content.map(({ text }) => text).join(''),
  }));
  return jobOf(body, {
    prompts: [render(messages)],
    maxTokens: body.max_completion_tokens ?? body.max_tokens ?? undefined,
    logprobs: body.logprobs ? (body.top_logprobs ?? 0) : undefined,
    echo: false,
  });
}

/** Answers of /v1/chat/completions, whole and as a stream. */
export class ChatShape implements Shape {
  readonly prefix = 'chatcmpl';
  readonly object = 'chat.completion';
  readonly chunkObject = 'chat.completion.chunk';
  readonly #job: Job;

  constructor(job: Job) {
    this.#job = job;
  }

  choice(index: number, result: GenerateResult): object {
    return {
      index,
      message: { role: 'assistant', content: result.text, refusal: null },
      logprobs: this.#job.logprobs === undefined ? null : chatLogprobs(result.logprobs),
      finish_reason: finishReason(result),
      ...routedFields(result, this.#job.routing),
    };
  }

  first(index: number): object {
    return { index, delta: { role: 'assistant', content: '' }, logprobs: null, finish_reason: null };
  }

  piece(index: number, { text, tokens }: Piece): object {
    const logprobs = this.#job.logprobs === undefined ? null : chatLogprobs(tokens);
    return { index, delta: { content: text }, logprobs, finish_reason: null };
  }

  last(index: number, result: GenerateResult): object {
    const end = { index, delta: {}, logprobs: null, finish_reason: finishReason(result) };
    return { ...end, ...routedFields(result, this.#job.routing) };
  }
}
