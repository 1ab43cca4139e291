import { TurnoutError } from '../../errors.js';
import type { GenerateResult, Piece, TextToken } from '../../model/generate.js';
import { finishReason } from './generations.js';
import { type Job, jobOf } from './job.js';
import { routedFields } from './routed.js';
import type { CompletionBody } from './schemas.js';
import type { Shape } from './shape.js';
import { LogprobsWriter, textOf } from './tokens.js';

/** OpenAI's default. */
const DEFAULT_MAX_TOKENS = 16;

/** The body of /v1/completions as a job. Throws TURNOUT_REQUEST_INVALID. */
export function completionJob(body: CompletionBody): Job {
  const { prompt, max_tokens, best_of, n } = body;
  if (best_of != null && best_of !== (n ?? 1)) {
    const message = `best_of: expected n, ${n ?? 1}: every answer is returned; got ${best_of}`;
    throw new TurnoutError('TURNOUT_UNSUPPORTED', message, { param: 'best_of' });
  }
  return jobOf(body, {
    prompts: promptsOf(prompt),
    maxTokens: max_tokens ?? DEFAULT_MAX_TOKENS,
    logprobs: body.logprobs ?? undefined,
    echo: body.echo ?? false,
  });
}

function promptsOf(prompt: CompletionBody['prompt']): Job['prompts'] {
  if (typeof prompt === 'string') return [prompt];
  return typeof prompt[0] === 'number' ? [prompt as number[]] : (prompt as string[] | number[][]);
}

/** Answers of /v1/completions, whole and as a stream. */
export class CompletionShape implements Shape {
  readonly prefix = 'cmpl';
  readonly object = 'text_completion';
  readonly chunkObject = 'text_completion';
  readonly #job: Job;
  readonly #writers = new Map<number, LogprobsWriter>();

  constructor(job: Job) {
    this.#job = job;
  }

  choice(index: number, result: GenerateResult): object {
    const { echo, logprobs, routing } = this.#job;
    const tokens = [...(echo ? (result.promptLogprobs ?? []) : []), ...result.logprobs];
    return {
      index,
      text: (echo ? this.#prompt(index) : '') + result.text,
      logprobs: logprobs === undefined ? null : this.#logprobs(index, tokens),
      finish_reason: finishReason(result),
      ...routedFields(result, routing),
    };
  }

  first(index: number): object | undefined {
    const { echo, logprobs } = this.#job;
    // With log-probabilities the prompt comes once they are known.
    return echo && logprobs === undefined ? this.#chunk(index, this.#prompt(index)) : undefined;
  }

  piece(index: number, { text, tokens, prompt }: Piece): object {
    const { echo, logprobs } = this.#job;
    if (logprobs === undefined) return this.#chunk(index, text);
    const echoed = echo && prompt ? prompt : [];
    const shown = (echoed.length > 0 ? this.#prompt(index) : '') + text;
    return this.#chunk(index, shown, this.#logprobs(index, [...echoed, ...tokens]));
  }

  last(index: number, result: GenerateResult): object {
    return {
      ...this.#chunk(index, ''),
      finish_reason: finishReason(result),
      ...routedFields(result, this.#job.routing),
    };
  }

  #chunk(index: number, text: string, logprobs: object | null = null) {
    return { index, text, logprobs, finish_reason: null };
  }

  #prompt(index: number): string {
    const prompt = this.#job.prompts[Math.floor(index / this.#job.n)]!;
    return typeof prompt === 'string' ? prompt : textOf(prompt);
  }

  #logprobs(index: number, tokens: readonly TextToken[]): object {
    const writer = this.#writers.get(index) ?? new LogprobsWriter();
    this.#writers.set(index, writer);
    return writer.write(tokens);
  }
}
