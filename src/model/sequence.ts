import type { PlainTensor } from '../experts/session.js';
import type { RequestState, Routing } from '../router/routing.js';
import type { Matrix } from '../tensor.js';
import { noTimes, type StepTimeline } from './program.js';
import type { Sampled, Sampler } from './sampler.js';

export type EndReason = 'max-tokens' | 'end-token' | 'scored' | 'stopped';

/** What a running sequence tells its owner, in order. */
export type SequenceEvent =
  | { readonly kind: 'logits'; readonly first: number; readonly logits: Matrix }
  | ({ readonly kind: 'token' } & Sampled)
  | { readonly kind: 'end'; readonly reason: EndReason };

export interface SequenceRequest {
  /** Prompt token ids, at least one. */
  readonly tokens: readonly number[];
  /** Tokens to generate at most; 0 scores the prompt and ends. */
  readonly maxTokens: number;
  /** Chooses the next token; needed when maxTokens > 0. */
  readonly sampler?: Sampler;
  /** A generated token that ends the sequence. */
  readonly endToken?: number;
  /** `all` emits the logits of each position, `prompt` those of the prompt, in order. */
  readonly logits?: 'none' | 'all' | 'prompt';
  /** Keys the router's random numbers; the same number and seed give the same routing in any company. */
  readonly request?: number;
  /** Keeps the routing of its tokens, layer by layer (`routing`). */
  readonly record?: boolean;
  /** Keeps when each of its steps ran, and what its layers did then (`timeline`). */
  readonly timeline?: boolean;
  readonly signal?: AbortSignal;
}

/** One step of a sequence. */
export interface SequenceStep extends StepTimeline {
  /** Rows of this sequence in the step. */
  readonly rows: number;
}

/** One running request: its tokens, cache blocks, counters and what it has emitted. The engine alone changes it. */
export class Sequence implements AsyncIterable<SequenceEvent> {
  /** Prompt and generated tokens. */
  readonly tokens: number[];
  /** Tokens whose keys and values are cached: the next row is token number `cached`. */
  cached = 0;
  blocks: number[] = [];
  generated = 0;
  /** Per layer: counters after the cached tokens. */
  counters: (RequestState | undefined)[] = [];
  /** Per `replace` state: its tensor after the cached tokens. */
  readonly replaced = new Map<string, PlainTensor>();
  /** Per layer: the routing of its tokens so far, in chunks; empty unless recorded. */
  readonly recorded: Routing[][] = [];
  /** Its steps so far; empty unless asked for. */
  readonly timeline: SequenceStep[] = [];
  /** When it was added, got its first token, and ended; of `performance.now()`. */
  readonly addedAt = performance.now();
  firstTokenAt: number | undefined;
  endedAt: number | undefined;
  /** Per step that it took part in, summed: what the whole step spent in each stage. */
  readonly times = noTimes();

  readonly #over = new AbortController();
  readonly #events: SequenceEvent[] = [];
  #failure: unknown;
  #wake: (() => void) | undefined;

  constructor(readonly request: SequenceRequest) {
    this.tokens = [...request.tokens];
  }

  /** Rows that wait to be run. */
  get pending(): number {
    return this.tokens.length - this.cached;
  }

  get ended(): boolean {
    return this.over.aborted;
  }

  /** Aborts when the sequence has ended, however it did: for listeners that must not outlive it. */
  get over(): AbortSignal {
    return this.#over.signal;
  }

  emit(event: SequenceEvent): void {
    this.#events.push(event);
    if (event.kind === 'token') this.firstTokenAt ??= performance.now();
    if (event.kind === 'end') this.#end();
    this.#wake?.();
  }

  /** Ends the sequence with an error, which its reader gets after the events before it. */
  fail(error: unknown): void {
    if (this.ended) return;
    this.#failure = error;
    this.#end();
    this.#wake?.();
  }

  #end(): void {
    this.endedAt = performance.now();
    this.#over.abort();
  }

  /** Events in order until the sequence ends; throws what it failed with. One reader only. */
  async *[Symbol.asyncIterator](): AsyncGenerator<SequenceEvent> {
    for (;;) {
      while (this.#events.length > 0) yield this.#events.shift()!;
      if (this.#failure !== undefined) throw this.#failure;
      if (this.ended) return;
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
  }
}
