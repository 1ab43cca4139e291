import { TurnoutError } from '../errors.js';
import type { RunOptions } from '../experts/backend.js';
import { sliceRouting } from '../router/slice.js';
import { row } from '../tensor.js';
import { logitsValid, problemOf } from './bad-logits.js';
import { BlockPool, BlockTable, pagedView } from './cache.js';
import { addTimes, type Program, type Span, type StepBatch, type StepResult } from './program.js';
import { Sequence, type SequenceRequest } from './sequence.js';
import { type EngineTotals, StepCounts } from './step-counts.js';

export interface EngineOptions {
  /** Sequences that decode in one step, at most; 64 where left out. */
  readonly decodeRows?: number;
  /**
   * Rows of one prompt that a step takes beside decoding rows, at most; 128 where left out. More keep
   * their next tokens waiting, fewer keep a prompt waiting for its first. A step without decoding rows takes twice as many.
   */
  readonly chunkRows?: number;
  /** Cache blocks in use at once, at most. A sequence waits until what it may need in the end is free. */
  readonly cacheBlocks?: number;
  /** Told when a step begins and when it is over: for those who must not end this thread while it computes. */
  readonly onStep?: (computes: boolean) => void;
}

/** What an engine has, and what it has done. */
export interface EngineStats extends EngineTotals {
  /** Sequences that take part in steps, and those that wait for cache blocks. */
  readonly running: number;
  readonly waiting: number;
  /** Cache blocks of `block` positions. */
  readonly cache: { readonly block: number; readonly used: number; readonly limit: number };
}

/** What one step did. */
export interface StepReport {
  /** Rows that passed the layers together; 0 where nothing was waiting. */
  readonly rows: number;
  readonly sequences: number;
  readonly times?: StepResult['times'];
}

/** Enough for 64 sequences of 4,096 positions at 64 positions a block. */
const DEFAULT_CACHE_BLOCKS = 4096;

/** Times that a step is tried whose lanes die. */
const MAX_TRIES = 3;

/** How many times `chunkRows` a step takes of a prompt where nothing decodes beside it. */
const ALONE = 2;

/**
 * Steps many sequences of different lengths together: decoding rows and one prompt chunk share each layer's expert
 * calls. Each sequence has its own cache blocks, capacity counters and sampler. Sequences come and go between steps.
 */
export class Engine {
  readonly #table: BlockTable;
  readonly #pools: ReadonlyMap<string, BlockPool>;
  readonly #decodeRows: number;
  readonly #chunkRows: number;
  readonly #onStep: EngineOptions['onStep'];
  /** Admitted sequences, the one that has waited longest for its turn first. */
  #running: Sequence[] = [];
  /** Sequences that wait for cache blocks, in order of arrival. */
  #waiting: Sequence[] = [];
  #stepping: Promise<unknown> = Promise.resolve();
  #driving: Promise<void> | undefined;
  readonly #counts = new StepCounts();
  #closed = false;

  constructor(
    readonly program: Program,
    options: EngineOptions = {},
  ) {
    const paged = program.manifest.program.states.flatMap((state) => (state.kind === 'paged' ? [state] : []));
    this.#pools = new Map(paged.map((state) => [state.name, new BlockPool(state)]));
    this.#table = new BlockTable(
      paged[0]?.block ?? program.manifest.sizes.context,
      atLeastOne('cacheBlocks', options.cacheBlocks ?? DEFAULT_CACHE_BLOCKS),
    );
    this.#decodeRows = atLeastOne('decodeRows', options.decodeRows ?? 64);
    this.#chunkRows = atLeastOne('chunkRows', options.chunkRows ?? 128);
    this.#onStep = options.onStep;
  }

  /** Sequences that run or wait. */
  get size(): number {
    return this.#running.length + this.#waiting.length;
  }

  stats(): EngineStats {
    const { block, used, limit } = this.#table;
    return {
      ...this.#counts.totals(),
      running: this.#running.length,
      waiting: this.#waiting.length,
      cache: { block, used, limit },
    };
  }

  /**
   * Takes a sequence in; it joins the next step, or waits for cache blocks. Read its events from the result.
   * Throws TURNOUT_INPUT_INVALID, TURNOUT_CONTEXT_EXCEEDED, TURNOUT_CACHE_EXCEEDED or TURNOUT_ROUTER_NOT_CAUSAL.
   */
  add(request: SequenceRequest): Sequence {
    if (this.#closed) throw new TurnoutError('TURNOUT_CLOSED', 'the engine is closed');
    checkRequest(this.program, request);
    const sequence = new Sequence(request);
    const needed = this.#reserved(sequence);
    if (needed > this.#table.limit) {
      throw new TurnoutError(
        'TURNOUT_CACHE_EXCEEDED',
        `the sequence may need ${needed} cache blocks, the engine has ${this.#table.limit}`,
        { needed, limit: this.#table.limit },
      );
    }
    this.#waiting.push(sequence);
    const { signal } = request;
    if (signal?.aborted) this.abort(sequence, signal.reason);
    else
      signal?.addEventListener('abort', () => this.abort(sequence, signal.reason), { signal: sequence.over });
    return sequence;
  }

  /** Ends a sequence between steps with TURNOUT_ABORTED; others go on. One that has ended stays as it is. */
  abort(sequence: Sequence, cause?: unknown): void {
    sequence.fail(new TurnoutError('TURNOUT_ABORTED', 'the sequence was aborted', {}, { cause }));
  }

  /** Ends a sequence as finished: its owner has what it wants. */
  stop(sequence: Sequence): void {
    if (!sequence.ended) sequence.emit({ kind: 'end', reason: 'stopped' });
  }

  /**
   * Passes the waiting rows of all sequences through the model once. Steps never overlap. Where it throws (a backend that
   * fails, a deadline), no sequence has moved and the step can be tried again.
   */
  step(options: RunOptions = {}): Promise<StepReport> {
    const step = this.#stepping.then(() => this.#step(options));
    this.#stepping = step.catch(() => undefined);
    return step;
  }

  /** Steps until no sequence is left. Calls join the loop that runs. A step that fails, even when tried again, ends all its sequences with its error. */
  drive(): Promise<void> {
    this.#driving ??= this.#drive().finally(() => {
      this.#driving = undefined;
    });
    return this.#driving;
  }

  /** Takes no new sequences and resolves when those that it has have ended. Abort them first to end sooner. */
  async close(): Promise<void> {
    this.#closed = true;
    await this.drive();
    await this.#stepping;
  }

  async #drive(): Promise<void> {
    let failures = 0;
    while (this.size > 0) {
      try {
        await this.step();
        failures = 0;
      } catch (error) {
        failures++;
        // Nothing has moved, and the lane is replaced: the same step again gives what it would have given.
        const again =
          error instanceof TurnoutError && error.code === 'TURNOUT_LANE_DIED' && failures < MAX_TRIES;
        if (!again) for (const sequence of this.#running) sequence.fail(error);
      }
      this.#sweep();
    }
  }

  async #step(options: RunOptions): Promise<StepReport> {
    this.#sweep();
    this.#admit();
    const spans = this.#schedule();
    if (spans.length === 0) return { rows: 0, sequences: 0 };
    const batch = this.#batch(spans, options);
    const result = await this.#run(batch);
    this.#counts.add(batch.ids.length, result.times);
    this.#commit(batch, result);
    this.#sweep();
    return { rows: batch.ids.length, sequences: spans.length, times: result.times };
  }

  async #run(batch: StepBatch): Promise<StepResult> {
    this.#onStep?.(true);
    try {
      return await this.program.run(batch);
    } finally {
      this.#onStep?.(false);
    }
  }

  /** Frees what ended sequences held. */
  #sweep(): void {
    for (const sequence of this.#running) {
      if (!sequence.ended) continue;
      for (const pool of this.#pools.values()) pool.clear(sequence.blocks);
      this.#table.release(sequence.blocks);
      sequence.blocks = [];
    }
    this.#running = this.#running.filter((sequence) => !sequence.ended);
    this.#waiting = this.#waiting.filter((sequence) => !sequence.ended);
  }

  /** Lets sequences in, in order, while the blocks that all may need in the end suffice. */
  #admit(): void {
    let reserved = this.#running.reduce((sum, sequence) => sum + this.#reserved(sequence), 0);
    while (this.#waiting.length > 0) {
      reserved += this.#reserved(this.#waiting[0]!);
      if (reserved > this.#table.limit) return;
      this.#running.push(this.#waiting.shift()!);
    }
  }

  #reserved({ request }: Sequence): number {
    return this.#table.blocksFor(request.tokens.length + request.maxTokens);
  }

  /** The rows of the next step: one row of each sequence that has one, then a chunk of the first that has more. */
  #schedule(): Span[] {
    const decoding = this.#running.filter((sequence) => sequence.pending === 1).slice(0, this.#decodeRows);
    const prompt = this.#running.find((sequence) => sequence.pending > 1);
    const spans = decoding.map((sequence, start) => ({ sequence, start, length: 1 }));
    if (prompt) {
      const most = decoding.length > 0 ? this.#chunkRows : ALONE * this.#chunkRows;
      spans.push({ sequence: prompt, start: spans.length, length: Math.min(prompt.pending, most) });
    }
    const chosen = new Set(spans.map((span) => span.sequence));
    this.#running = [...this.#running.filter((sequence) => !chosen.has(sequence)), ...chosen];
    return spans;
  }

  #batch(spans: readonly Span[], options: RunOptions): StepBatch {
    const ids: number[] = [];
    const positions: number[] = [];
    const select: number[] = [];
    for (const { sequence, start, length } of spans) {
      const end = sequence.cached + length;
      while (sequence.blocks.length < this.#table.blocksFor(end)) sequence.blocks.push(this.#table.take());
      for (let i = 0; i < length; i++) {
        ids.push(sequence.tokens[sequence.cached + i]!);
        positions.push(sequence.cached + i);
        if (wanted(sequence, i, length)) select.push(start + i);
      }
    }
    const chunk = spans.find((span) => span.length > 1);
    const decoding = spans.filter((span) => span !== chunk).map((span) => span.sequence);
    return {
      ...options,
      ids: BigInt64Array.from(ids, BigInt),
      positions: BigInt64Array.from(positions, BigInt),
      select: BigInt64Array.from(select, BigInt),
      spans,
      table: this.#table,
      pools: this.#pools,
      view: pagedView(this.#table, decoding, chunk && { ...cachedOf(chunk.sequence), length: chunk.length }),
    };
  }

  /** Moves every sequence of the step on: counters, caches, logits, next token. */
  #commit(batch: StepBatch, result: StepResult): void {
    let selected = 0;
    batch.spans.forEach((span, index) => {
      const { sequence, length } = span;
      const first = selected;
      for (let i = 0; i < length; i++) if (wanted(sequence, i, length)) selected++;
      if (sequence.ended) return;
      const bad = badRow(this.program, result, span);
      if (bad) {
        sequence.fail(bad);
        return;
      }
      keepRouting(sequence, span, index, result);
      addTimes(sequence.times, result.times);
      if (sequence.request.timeline) sequence.timeline.push({ ...result.timeline, rows: length });
      for (const [name, value] of result.replaced.get(sequence) ?? []) sequence.replaced.set(name, value);
      const at = sequence.cached;
      const all = wantsAll(sequence);
      sequence.cached += length;
      if (all) {
        const { cols, data } = result.logits;
        const logits = { rows: length, cols, data: data.slice(first * cols, (first + length) * cols) };
        sequence.emit({ kind: 'logits', first: at, logits });
      }
      if (sequence.pending === 0) next(sequence, row(result.logits, selected - 1));
    });
  }
}

/** Whether the logits of row `i` of a span of `length` rows are needed: all that are asked for, and the last to go on. */
function wanted(sequence: Sequence, i: number, length: number): boolean {
  return wantsAll(sequence) || (i === length - 1 && length === sequence.pending);
}

/** Whether the logits of all rows of its next step are asked for. */
function wantsAll({ request, cached }: Sequence): boolean {
  return request.logits === 'all' || (request.logits === 'prompt' && cached < request.tokens.length);
}

/** Ends the sequence or gives it its next token. `logits` [vocabulary] are those of its last token. */
function next(sequence: Sequence, logits: Float32Array): void {
  const { maxTokens, sampler, endToken } = sequence.request;
  if (maxTokens === 0 || !sampler) {
    sequence.emit({ kind: 'end', reason: 'scored' });
    return;
  }
  if (!logitsValid(logits)) {
    const position = sequence.cached - 1;
    sequence.fail(
      new TurnoutError('TURNOUT_LOGITS_INVALID', `the model gave NaN or +infinity at position ${position}`, {
        position,
      }),
    );
    return;
  }
  const sampled = sampler(logits, sequence.cached);
  sequence.generated++;
  if (sampled.token === endToken) {
    sequence.emit({ kind: 'end', reason: 'end-token' });
    return;
  }
  sequence.tokens.push(sampled.token);
  sequence.emit({ kind: 'token', ...sampled });
  if (sequence.generated >= maxTokens) sequence.emit({ kind: 'end', reason: 'max-tokens' });
}

function keepRouting(sequence: Sequence, span: Span, index: number, result: StepResult): void {
  result.routings.forEach((routing, layer) => {
    sequence.counters[layer] = routing.states[index];
    if (!sequence.request.record) return;
    sequence.recorded[layer] ??= [];
    sequence.recorded[layer].push(sliceRouting(routing, span.start, span.length, index));
  });
}

/** The error of a sequence with a row that could not be routed, in whichever layer. */
function badRow(
  { layers }: Program,
  { routings }: StepResult,
  { sequence, start, length }: Span,
): TurnoutError | undefined {
  for (const [layer, routing] of routings.entries()) {
    const bad = routing.badRows.find(({ row }) => row >= start && row < start + length);
    if (bad) return problemOf(bad, layers[layer]!, sequence.cached + bad.row - start);
  }
  return undefined;
}

function cachedOf({ blocks, cached }: Sequence): { blocks: number[]; cached: number } {
  return { blocks, cached };
}

function checkRequest({ manifest, layers }: Program, { tokens, maxTokens, sampler }: SequenceRequest): void {
  const { vocabulary, context } = manifest.sizes;
  const wrong = tokens.find((token) => !Number.isInteger(token) || token < 0 || token >= vocabulary);
  if (tokens.length === 0 || wrong !== undefined) {
    const got = tokens.length === 0 ? 'none' : String(wrong);
    throw new TurnoutError(
      'TURNOUT_INPUT_INVALID',
      `expected token ids from 0 to ${vocabulary - 1}, at least one, got ${got}`,
    );
  }
  if (!Number.isInteger(maxTokens) || maxTokens < 0) {
    throw new TurnoutError(
      'TURNOUT_INPUT_INVALID',
      `expected maxTokens to be a whole number from 0, got ${maxTokens}`,
    );
  }
  const length = tokens.length + maxTokens;
  if (length > context) {
    throw new TurnoutError(
      'TURNOUT_CONTEXT_EXCEEDED',
      `the prompt has ${tokens.length} tokens and ${maxTokens} are asked for: ${length}, the model's context is ${context}`,
      { prompt: tokens.length, maxTokens, context },
    );
  }
  const acausal = layers.find((layer) => !layer.router.causal);
  if (acausal && sampler) {
    throw new TurnoutError(
      'TURNOUT_ROUTER_NOT_CAUSAL',
      `${acausal.name}: ${acausal.router.notCausalBecause}`,
    );
  }
}

function atLeastOne(name: string, value: number): number {
  if (Number.isInteger(value) && value >= 1) return value;
  throw new TurnoutError('TURNOUT_OPTIONS_INVALID', `${name}: expected a whole number from 1, got ${value}`);
}
