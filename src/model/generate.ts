import { TurnoutError } from '../errors.js';
import type { Routing } from '../router/routing.js';
import { joinRoutings } from '../router/slice.js';
import type { Engine } from './engine.js';
import type { ModelTimes } from './program.js';
import { createSampler, type SamplerOptions } from './sampler.js';
import type { EndReason, Sequence } from './sequence.js';
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
}

/** Longer timers cannot be had in Node. */
const MAX_TIMER_MS = 2 ** 31 - 1;

/** Some whole characters, and the tokens that were generated since the last piece. */
export interface Piece {
  readonly text: string;
  readonly tokens: readonly { readonly id: number; readonly logprob: number }[];
}

export interface GenerateResult {
  /** The generated text, without the prompt, and without a character that it ends within. */
  readonly text: string;
  /** Generated token ids. */
  readonly tokens: readonly number[];
  /** Token ids of the prompt, the begin token included. */
  readonly prompt: readonly number[];
  readonly reason: EndReason | 'stop';
  /** Per layer: the routing of prompt and generated tokens (the last generated one has not passed the model). */
  readonly routing: readonly Routing[];
  /** Milliseconds of the steps that this sequence took part in. */
  readonly times: ModelTimes;
}

/** A generation that runs: iterate it for text as it comes, or await `result()`. */
export class Generation implements AsyncIterable<Piece> {
  readonly #sequence: Sequence;
  readonly #stream: TextStream;
  readonly #pieces: AsyncGenerator<Piece>;
  readonly #timer: AbortSignal | undefined;
  #text = '';
  #reason: GenerateResult['reason'] = 'max-tokens';

  constructor(
    readonly engine: Engine,
    prompt: string | readonly number[],
    options: GenerateOptions,
  ) {
    const { tokenizer, sizes } = engine.program.manifest;
    const tokens = typeof prompt === 'string' ? [tokenizer.begin, ...encodeBytes(prompt)] : prompt;
    const room = Math.max(0, sizes.context - tokens.length);
    this.#timer = timerOf(options.timeoutMs);
    const signals = [options.signal, this.#timer].filter((signal) => signal !== undefined);
    this.#stream = new TextStream(stopTexts(options.stop));
    this.#sequence = engine.add({
      tokens,
      maxTokens: options.maxTokens ?? Math.min(128, Math.max(1, room)),
      sampler: createSampler(options),
      endToken: tokenizer.end,
      record: true,
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
    const { request, tokens, recorded, times } = this.#sequence;
    return {
      text: this.#text,
      tokens: tokens.slice(request.tokens.length),
      prompt: request.tokens,
      reason: this.#reason,
      routing: recorded.map(joinRoutings),
      times,
    };
  }

  async *#read(): AsyncGenerator<Piece> {
    let tokens: { id: number; logprob: number }[] = [];
    try {
      for await (const event of this.#events()) {
        if (event.kind === 'end') {
          this.#reason = event.reason;
          break;
        }
        if (event.kind !== 'token') continue;
        tokens.push({ id: event.token, logprob: event.logprob });
        const { text, stopped } =
          event.token < 256 ? this.#stream.push(event.token) : { text: '', stopped: false };
        if (stopped) this.#reason = 'stop';
        if (text !== '') yield this.#piece(text, tokens);
        if (text !== '') tokens = [];
        if (stopped) return;
      }
      const rest = this.#stream.end();
      if (rest !== '' || tokens.length > 0) yield this.#piece(rest, tokens);
    } finally {
      this.engine.stop(this.#sequence);
    }
  }

  async *#events() {
    try {
      yield* this.#sequence;
    } catch (error) {
      throw this.#timer?.aborted ? exceeded(this.#timer, error) : error;
    }
  }

  #piece(text: string, tokens: Piece['tokens']): Piece {
    this.#text += text;
    return { text, tokens };
  }
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
