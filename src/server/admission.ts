import { TurnoutError } from '../errors.js';

export interface AdmissionOptions {
  /** Sequences in the engine at once. */
  readonly running: number;
  /** Requests that wait for a place, at most; more are refused with TURNOUT_OVERLOADED. */
  readonly queue: number;
  /** Milliseconds that a request may wait; then TURNOUT_QUEUE_TIMEOUT. */
  readonly queueDelayMs: number;
  /** Cache blocks that all running sequences together may come to need. */
  readonly blocks: number;
}

/** What a request needs while it runs. */
export interface Need {
  readonly sequences: number;
  /** Cache blocks at its end. */
  readonly blocks: number;
  /** 1 goes first, 5 last, as Triton counts them; in order of arrival among equals. */
  readonly priority: number;
}

/** How long a request waits at most. */
export interface WaitLimits {
  readonly signal: AbortSignal;
  /** Milliseconds that the request has at all; then TURNOUT_DEADLINE_EXCEEDED. */
  readonly waitMs: number;
}

/** A place in the engine; to be released once. */
export interface Place {
  /** Milliseconds that it was waited for. */
  readonly waitedMs: number;
  release(): void;
}

interface Waiting extends Need {
  enter(): void;
}

/** Seconds that a refused client is told to wait, at least and at most. */
const RETRY_AFTER = { min: 1, max: 60 } as const;
/** Weight of the last request in the mean time that one takes. */
const MEAN_WEIGHT = 0.1;

/**
 * Decides who may enter the engine, in the thread that answers: refusing costs no computation. Requests wait in order of
 * priority and arrival; the first one waits for its whole need, so that a large one is not overtaken for ever.
 */
export class Admission {
  readonly options: AdmissionOptions;
  #waiting: Waiting[] = [];
  #sequences = 0;
  #blocks = 0;
  #closed = false;
  #meanMs = 0;
  #idle: Promise<void> | undefined;
  #empty: (() => void) | undefined;

  constructor(options: AdmissionOptions) {
    this.options = options;
  }

  get running(): number {
    return this.#sequences;
  }

  get waiting(): number {
    return this.#waiting.length;
  }

  get closed(): boolean {
    return this.#closed;
  }

  /** Seconds until a place may be free, for Retry-After. */
  get retryAfter(): number {
    const seconds = ((this.#waiting.length + 1) * this.#meanMs) / this.options.running / 1000;
    return Math.min(RETRY_AFTER.max, Math.max(RETRY_AFTER.min, Math.ceil(seconds)));
  }

  /**
   * Waits for a place. Throws TURNOUT_CACHE_EXCEEDED or TURNOUT_REQUEST_TOO_LARGE for what can never fit,
   * TURNOUT_OVERLOADED, TURNOUT_QUEUE_TIMEOUT, TURNOUT_DEADLINE_EXCEEDED, TURNOUT_ABORTED, and TURNOUT_CLOSED once closed.
   */
  async enter(need: Need, limits: WaitLimits): Promise<Place> {
    this.#check(need);
    const started = performance.now();
    if (this.#waiting.length > 0 || !this.#fits(need)) await this.#wait(need, limits);
    else this.#take(need);
    const entered = performance.now();
    let released = false;
    const release = () => {
      if (released) return;
      released = true;
      this.#leave(need, performance.now() - entered);
    };
    return { waitedMs: entered - started, release };
  }

  /** Lets nobody in any more, not even those that wait; resolves when the last one has left. */
  async close(): Promise<void> {
    this.#closed = true;
    for (const { enter } of this.#waiting.splice(0)) enter();
    if (this.#sequences === 0) return;
    this.#idle ??= new Promise((resolve) => {
      this.#empty = resolve;
    });
    await this.#idle;
  }

  #check({ sequences, blocks }: Need): void {
    if (this.#closed) throw closed();
    const { running, blocks: all, queue } = this.options;
    if (blocks > all) {
      const message = `the request may need ${blocks} cache blocks, the server has ${all}`;
      throw new TurnoutError('TURNOUT_CACHE_EXCEEDED', message, { needed: blocks, limit: all });
    }
    if (sequences > running) {
      const message = `the request has ${sequences} sequences, the server runs ${running} at once`;
      throw new TurnoutError('TURNOUT_REQUEST_TOO_LARGE', message, { sequences, limit: running });
    }
    const direct = this.#waiting.length === 0 && this.#fits({ sequences, blocks });
    if (direct || this.#waiting.length < queue) return;
    const message = `${this.#waiting.length} requests wait already, the most that the server lets wait`;
    throw new TurnoutError('TURNOUT_OVERLOADED', message, { limit: queue });
  }

  #fits({ sequences, blocks }: Pick<Need, 'sequences' | 'blocks'>): boolean {
    const { running, blocks: all } = this.options;
    return this.#sequences + sequences <= running && this.#blocks + blocks <= all;
  }

  #take({ sequences, blocks }: Need): void {
    this.#sequences += sequences;
    this.#blocks += blocks;
  }

  #leave({ sequences, blocks }: Need, ms: number): void {
    this.#sequences -= sequences;
    this.#blocks -= blocks;
    this.#meanMs += (ms - this.#meanMs) * (this.#meanMs === 0 ? 1 : MEAN_WEIGHT);
    this.#letIn();
    if (this.#sequences === 0) this.#empty?.();
  }

  #letIn(): void {
    while (this.#waiting.length > 0 && this.#fits(this.#waiting[0]!)) {
      const next = this.#waiting.shift()!;
      this.#take(next);
      next.enter();
    }
  }

  /** Resolves with the need taken. */
  #wait(need: Need, { signal, waitMs }: WaitLimits): Promise<void> {
    const { queueDelayMs } = this.options;
    return new Promise((resolve, reject) => {
      const settle = (outcome: () => void) => {
        clearTimeout(timer);
        signal.removeEventListener('abort', onAbort);
        outcome();
      };
      const waiting: Waiting = {
        ...need,
        enter: () => settle(this.#closed ? () => reject(closed()) : resolve),
      };
      const giveUp = (error: TurnoutError) => {
        this.#waiting = this.#waiting.filter((other) => other !== waiting);
        settle(() => reject(error));
        // It may have been the first in line, and too large for what is free.
        this.#letIn();
      };
      const onAbort = () =>
        giveUp(new TurnoutError('TURNOUT_ABORTED', 'the client went away while it waited'));
      const timer =
        waitMs < queueDelayMs
          ? setTimeout(() => giveUp(exceeded(waitMs)), waitMs)
          : setTimeout(() => giveUp(late(queueDelayMs)), queueDelayMs);
      signal.addEventListener('abort', onAbort, { once: true });
      const place = this.#waiting.findIndex(({ priority }) => priority > need.priority);
      this.#waiting.splice(place < 0 ? this.#waiting.length : place, 0, waiting);
      if (signal.aborted) onAbort();
    });
  }
}

function closed(): TurnoutError {
  return new TurnoutError('TURNOUT_CLOSED', 'the server is shutting down');
}

function exceeded(timeoutMs: number): TurnoutError {
  const message = `the request waited ${timeoutMs} ms in the queue, all the time that it was given`;
  return new TurnoutError('TURNOUT_DEADLINE_EXCEEDED', message, { timeoutMs });
}

function late(queueDelayMs: number): TurnoutError {
  const message = `the request waited ${queueDelayMs} ms in the queue, the most that the server lets one wait`;
  return new TurnoutError('TURNOUT_QUEUE_TIMEOUT', message, { queueDelayMs });
}
