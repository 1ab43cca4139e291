import { TurnoutError } from '../errors.js';
import type { RunOptions } from './backend.js';

/** One int32 in shared memory, so that other threads see it too: not 0 once nobody waits for the result of a call. */
export type StopFlag = Int32Array;

export function isStopped(stop: StopFlag | undefined): boolean {
  return stop !== undefined && Atomics.load(stop, 0) !== 0;
}

/**
 * In a thread that does not block: calls `onStop` once the flag is set. The result ends the watch; to be called when the
 * work is over.
 */
export function onStopped(stop: StopFlag, onStop: () => void): () => void {
  let over = false;
  const watch = async () => {
    // Others who watch the same flag are woken too when one of them ends.
    while (!over && !isStopped(stop)) {
      const { async, value } = Atomics.waitAsync(stop, 0, 0);
      if (async) await value;
    }
    if (!over) onStop();
  };
  void watch();
  return () => {
    over = true;
    Atomics.notify(stop, 0);
  };
}

/** Longer timers fire at once in Node. */
const MAX_TIMER_MS = 2 ** 31 - 1;

/**
 * Runs `work` under the signal and deadline of a call. An abort or a passed deadline settles the caller at once and sets
 * `stop`; the work goes on until it looks, and its result is discarded. Work that ends late because it blocked
 * the event loop is past its deadline too. `work` gets no `stop` where nothing can stop it.
 */
export async function withinLimits<T>(
  options: RunOptions,
  work: (stop?: StopFlag) => Promise<T>,
): Promise<T> {
  const { signal, timeoutMs = Infinity } = options;
  if (signal === undefined && timeoutMs === Infinity) return work();
  if (typeof timeoutMs !== 'number' || Number.isNaN(timeoutMs)) {
    const message = `timeoutMs: expected a number of milliseconds, got ${timeoutMs}`;
    throw new TurnoutError('TURNOUT_OPTIONS_INVALID', message, { timeoutMs });
  }
  if (signal?.aborted) throw aborted(signal);
  if (timeoutMs <= 0) throw exceeded(timeoutMs);
  return race(signal, timeoutMs, work);
}

function race<T>(
  signal: AbortSignal | undefined,
  timeoutMs: number,
  work: (stop: StopFlag) => Promise<T>,
): Promise<T> {
  return new Promise((resolve, reject) => {
    const stop: StopFlag = new Int32Array(new SharedArrayBuffer(4));
    const deadline = performance.now() + timeoutMs;
    const settle = (outcome: () => void) => {
      clearTimeout(timer);
      signal?.removeEventListener('abort', onAbort);
      outcome();
    };
    const giveUp = (error: TurnoutError) => {
      Atomics.store(stop, 0, 1);
      Atomics.notify(stop, 0);
      settle(() => reject(error));
    };
    const onAbort = () => giveUp(aborted(signal!));
    const timer =
      timeoutMs > MAX_TIMER_MS ? undefined : setTimeout(() => giveUp(exceeded(timeoutMs)), timeoutMs);
    signal?.addEventListener('abort', onAbort, { once: true });
    work(stop).then(
      (value) => settle(() => (performance.now() > deadline ? reject(exceeded(timeoutMs)) : resolve(value))),
      (error) => settle(() => reject(error)),
    );
  });
}

/** What is left of a call's time, once its patience is over, for putting together what has come. */
const MARGIN = 0.1;

/** How long a call waits for experts before it goes on without them: most of its time limit, for ever without one. */
export class Patience {
  readonly over: Promise<undefined> | undefined;
  #timer: NodeJS.Timeout | undefined;

  constructor(timeoutMs = Infinity) {
    if (timeoutMs > MAX_TIMER_MS) return;
    this.over = new Promise((resolve) => {
      this.#timer = setTimeout(resolve, timeoutMs * (1 - MARGIN), undefined);
    });
  }

  end(): void {
    clearTimeout(this.#timer);
  }
}

function aborted(signal: AbortSignal): TurnoutError {
  const { reason } = signal;
  const message = `the call was aborted: ${reason instanceof Error ? reason.message : String(reason)}`;
  return new TurnoutError('TURNOUT_ABORTED', message, {}, { cause: reason });
}

function exceeded(timeoutMs: number): TurnoutError {
  const message = `the call took longer than its ${timeoutMs} ms`;
  return new TurnoutError('TURNOUT_DEADLINE_EXCEEDED', message, { timeoutMs });
}
