import type { GenerateResult, TextToken } from '../../model/generate.js';

/** A token as OpenAI writes those that are no whole character: ASCII as it is, other bytes as `bytes:\xNN`. */
export function tokenText(id: number): string {
  if (id < 0x80) return String.fromCharCode(id);
  return id < 0x100 ? `bytes:\\x${id.toString(16).padStart(2, '0')}` : `<|${id}|>`;
}

/** The bytes of its text; none of a token that stands for no text. */
export function tokenBytes(id: number): number[] {
  return id < 0x100 ? [id] : [];
}

/** Token ids -> their text; bytes that are not UTF-8 become U+FFFD. */
export function textOf(ids: readonly number[]): string {
  return new TextDecoder('utf-8', { ignoreBOM: true }).decode(
    Uint8Array.from(ids.filter((id) => id < 0x100)),
  );
}

/** Log-probabilities in the shape of /v1/completions, with the bytes of each token added. */
export interface CompletionLogprobs {
  readonly tokens: string[];
  readonly token_logprobs: (number | null)[];
  readonly top_logprobs: (Record<string, number> | null)[];
  readonly text_offset: number[];
  readonly bytes: number[][];
}

/** Writes the log-probabilities of one answer; it remembers how long the text is, for the offsets of later tokens. */
export class LogprobsWriter {
  readonly #decoder = new TextDecoder('utf-8', { ignoreBOM: true });
  #offset = 0;

  write(tokens: readonly TextToken[]): CompletionLogprobs {
    return {
      tokens: tokens.map(({ id }) => tokenText(id)),
      token_logprobs: tokens.map(({ logprob }) => logprob),
      top_logprobs: tokens.map(topByText),
      text_offset: tokens.map(({ id }) => this.#next(id)),
      bytes: tokens.map(({ id }) => tokenBytes(id)),
    };
  }

  /** Where the character of a token begins; a byte within one stands where its first byte stands. */
  #next(id: number): number {
    const at = this.#offset;
    const text = this.#decoder.decode(Uint8Array.from(tokenBytes(id)), { stream: true });
    this.#offset += text.length;
    return at;
  }
}

/** The alternatives and the token itself, which may be one of them; null of the first token of a prompt. */
function topByText({ id, logprob, top = [] }: TextToken): Record<string, number> | null {
  if (logprob === null) return null;
  const all = top.map((other) => [tokenText(other.token), other.logprob] as const);
  return Object.fromEntries([...all, [tokenText(id), logprob]]);
}

/** Log-probabilities in the shape of /v1/chat/completions. */
export function chatLogprobs(tokens: readonly TextToken[]): { content: object[]; refusal: null } {
  const entry = (id: number, logprob: number | null) => ({
    token: tokenText(id),
    logprob,
    bytes: tokenBytes(id),
  });
  const content = tokens.map(({ id, logprob, top = [] }) => ({
    ...entry(id, logprob),
    top_logprobs: top.map((other) => entry(other.token, other.logprob)),
  }));
  return { content, refusal: null };
}

export interface Usage {
  readonly prompt_tokens: number;
  readonly completion_tokens: number;
  readonly total_tokens: number;
}

/** Tokens of a request: each prompt once, all of its answers. */
export function usageOf(results: readonly GenerateResult[], n: number): Usage {
  const prompts = results.filter((_, choice) => choice % n === 0);
  const prompt_tokens = prompts.reduce((sum, { prompt }) => sum + prompt.length, 0);
  const completion_tokens = results.reduce((sum, { tokens }) => sum + tokens.length, 0);
  return { prompt_tokens, completion_tokens, total_tokens: prompt_tokens + completion_tokens };
}
