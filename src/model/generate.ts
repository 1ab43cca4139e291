import { TurnoutError } from '../errors.js';
import type { Routing } from '../router/routing.js';
import { joinRoutings } from '../router/slice.js';
import { type Matrix, row } from '../tensor.js';
import type { Engine } from './engine.js';
import type { Manifest } from './manifest.js';
import type { ModelTimes } from './program.js';
import { createSampler, logSumExp, type SamplerOptions, type TokenLogprob, topTokens } from './sampler.js';
import type { EndReason, Sequence, SequenceStep } from './sequence.js';
import { encodeBytes, TextStream } from './tokenizer.js';

export interface GenerateOptions extends SamplerOptions {
  /** Tokens to generate at most; 128 where left out, fewer where the context ends. */
  readonly maxTokens?: number;
  /** Texts that end the generation; they are not part of the result. */
  readonly stop?: string | readonly string[];
  readonly signal?: AbortSignal;
  /** Milliseconds for the whole generation; then TURNOUT_DEADLINE_EXCEEDED. */
  readonly timeoutMs?: number;
  /** Keys the router's random numbers, for rules that have some; 0 where left out. */
  readonly request?: number;
  /** Keeps the routing of its tokens; `true` where left out. */
  readonly record?: boolean;
  /** Keeps when each of its steps ran and what its layers did then; `false` where left out. */
  readonly timeline?: boolean;
  /** Tells how probable the tokens of the prompt were; `false` where left out. */
  readonly scorePrompt?: boolean;
  /** Goes on after the end token, which stands for no text; `false` where left out. */
  readonly ignoreEnd?: boolean;
}

/** Longer timers cannot be had in Node. */
const MAX_TIMER_MS = 2 ** 31 - 1;

/** Some whole characters, and the tokens that were generated since the last piece. */
export interface Piece {
  readonly text: string;
  /** The tokens of the prompt, before anything else, where `scorePrompt` asks for them. */
  readonly prompt?: readonly TextToken[];
  /** Empty where `logprobs` is false. */
  readonly tokens: readonly TextToken[];
}

/** A token of the prompt or of the text. */
export interface TextToken {
  readonly id: number;
  /** Under the model, at temperature 1; null of the first token of a prompt. */
  readonly logprob: number | null;
  /** The most probable tokens at its place, the best first, where `top` asks for some. */
  readonly top?: readonly TokenLogprob[];
}

export interface GenerateResult {
  /** The generated text, without the prompt, and without a character that it ends within. */
  readonly text: string;
  /** Generated token ids. */
  readonly tokens: readonly number[];
  /** The same with how probable each was; empty where `logprobs` is false. */
  readonly logprobs: readonly TextToken[];
  /** Token ids of the prompt, the begin token included. */
  readonly prompt: readonly number[];
  readonly reason: EndReason | 'stop';
  /** Of each token of the prompt, where `scorePrompt` asks for it. */
  readonly promptLogprobs?: readonly TextToken[];
  /** Per layer: the routing of prompt and generated tokens (the last generated one has not passed the model). Empty unless recorded. */
  readonly routing: readonly Routing[];
  /** The steps that it took part in, where `timeline` asks for them; times count from its begin. */
  readonly timeline: readonly SequenceStep[];
  /** Milliseconds from its begin to its first token, if it had one, and to its end. */
  readonly latency: { readonly firstTokenMs?: number; readonly totalMs: number };
  /** Milliseconds of the steps that this sequence took part in. */
  readonly times: ModelTimes;
}

/** The token ids of a prompt: a text is one token a byte, behind the begin token. */
export function promptTokens({ tokenizer }: Manifest, prompt: string | readonly number[]): readonly number[] {
  return typeof prompt === 'string' ? [tokenizer.begin, ...encodeBytes(prompt)] : prompt;
}

/** A generation that runs: iterate it for text as it comes, or await `result()`. */
export class Generation implements AsyncIterable<Piece> {
  readonly #sequence: Sequence;
  readonly #stream: TextStream;
  readonly #pieces: AsyncGenerator<Piece>;
  readonly #timer: AbortSignal | undefined;
  #text = '';
  readonly #promptLogprobs: TextToken[] = [];
  readonly #logprobs: TextToken[] = [];
  readonly #top: number;
  readonly #tellsTokens: boolean;
  #reason: GenerateResult['reason'] = 'max-tokens';

  constructor(
    readonly engine: Engine,
    tokens: readonly number[],
    options: GenerateOptions,
  ) {
    const { tokenizer, sizes } = engine.program.manifest;
    const room = Math.max(0, sizes.context - tokens.length);
    this.#timer = timerOf(options.timeoutMs);
    const signals = [options.signal, this.#timer].filter((signal) => signal !== undefined);
    this.#stream = new TextStream(stopTexts(options.stop));
    this.#top = options.top ?? 0;
    this.#tellsTokens = options.logprobs ?? true;
    const maxTokens = options.maxTokens ?? Math.min(128, Math.max(1, room));
    const sampler = createSampler(options);
    this.#sequence = engine.add({
      tokens,
      maxTokens,
      ...(maxTokens === 0 ? {} : { sampler }),
      ...(options.ignoreEnd ? {} : { endToken: tokenizer.end }),
      record: options.record ?? true,
      timeline: options.timeline ?? false,
      logits: options.scorePrompt ? 'prompt' : 'none',
      ...(options.request === undefined ? {} : { request: options.request }),
      ...(signals.length > 0 ? { signal: AbortSignal.any(signals) } : {}),
    });
    this.#pieces = this.#read();
    void engine.drive();
  }

  [Symbol.asyncIterator](): AsyncGenerator<Piece> {
    return this.#pieces;
  }

  /** Runs to the end, whether it was iterated or not. */
  async result(): Promise<GenerateResult> {
    for await (const _ of this.#pieces);
    const { request, tokens, recorded, times, addedAt, firstTokenAt, endedAt, timeline } = this.#sequence;
    return {
      text: this.#text,
      tokens: tokens.slice(request.tokens.length),
      logprobs: this.#logprobs,
      prompt: request.tokens,
      reason: this.#reason,
      ...(request.logits === 'prompt' && { promptLogprobs: this.#promptLogprobs }),
      routing: recorded.map(joinRoutings),
      timeline: timeline.map((step) => since(addedAt, step)),
      latency: {
        ...(firstTokenAt !== undefined && { firstTokenMs: firstTokenAt - addedAt }),
        totalMs: endedAt! - addedAt,
      },
      times,
    };
  }

  async *#read(): AsyncGenerator<Piece> {
    let tokens: TextToken[] = [];
    let scored = this.#sequence.request.logits !== 'prompt';
    try {
      for await (const event of this.#sequence) {
        if (event.kind === 'logits') {
          this.#scorePrompt(event.first, event.logits);
          continue;
        }
        if (!scored) yield { text: '', prompt: this.#promptLogprobs, tokens: [] };
        scored = true;
        if (event.kind === 'end') {
          this.#reason = event.reason;
          break;
        }
        if (this.#tellsTokens) {
          const { token: id, logprob, top } = event;
          const token = { id, logprob, ...(top && { top }) };
          this.#logprobs.push(token);
          tokens.push(token);
        }
        const { text, stopped } =
          event.token < 256 ? this.#stream.push(event.token) : { text: '', stopped: false };
        if (stopped) this.#reason = 'stop';
        if (text !== '') yield this.#piece(text, tokens);
        if (text !== '') tokens = [];
        if (stopped) return;
      }
      const rest = this.#stream.end();
      if (rest !== '' || tokens.length > 0) yield this.#piece(rest, tokens);
    } catch (error) {
      throw this.#timer?.aborted ? exceeded(this.#timer, error) : error;
    } finally {
      this.engine.stop(this.#sequence);
    }
  }

  /** Takes in the logits of the prompt's tokens from `first` on: each tells of the token after it. */
  #scorePrompt(first: number, logits: Matrix): void {
    const { tokens } = this.#sequence.request;
    if (first === 0) this.#promptLogprobs.push({ id: tokens[0]!, logprob: null });
    for (let i = 0; i < logits.rows && first + i + 1 < tokens.length; i++) {
      const scores = row(logits, i);
      const normaliser = logSumExp(scores);
      const id = tokens[first + i + 1]!;
      const top = this.#top > 0 && { top: topTokens(scores, this.#top, normaliser) };
      this.#promptLogprobs.push({ id, logprob: scores[id]! - normaliser, ...top });
    }
  }

  #piece(text: string, tokens: Piece['tokens']): Piece {
    this.#text += text;
    return { text, tokens };
  }
}

/** A step with times that count from `begin`. */
function since(begin: number, { from, to, layers, ...step }: SequenceStep): SequenceStep {
  const moved = layers.map((layer) => ({ ...layer, from: layer.from - begin }));
  return { ...step, from: from - begin, to: to - begin, layers: moved };
}

function stopTexts(stop: GenerateOptions['stop'] = []): readonly string[] {
  const stops = typeof stop === 'string' ? [stop] : stop;
  if (stops.some((text) => typeof text !== 'string' || text === '')) {
    throw new TurnoutError('TURNOUT_OPTIONS_INVALID', 'stop: expected texts of at least one character');
  }
  return stops;
}

function timerOf(timeoutMs: number | undefined): AbortSignal | undefined {
  if (timeoutMs === undefined) return undefined;
  if (timeoutMs > 0) return AbortSignal.timeout(Math.min(timeoutMs, MAX_TIMER_MS));
  throw new TurnoutError('TURNOUT_OPTIONS_INVALID', `timeoutMs: expected a number above 0, got ${timeoutMs}`);
}

function exceeded(timer: AbortSignal, error: unknown): unknown {
  if (!(error instanceof TurnoutError) || error.cause !== timer.reason) return error;
  return new TurnoutError(
    'TURNOUT_DEADLINE_EXCEEDED',
    'the generation took longer than its timeoutMs',
    {},
    { cause: error },
  );
}
