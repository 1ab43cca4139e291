import { TurnoutError } from '../errors.js';
import type { RunOptions } from '../experts/backend.js';
import type { Need } from './admission.js';
import type { ServerContext } from './context.js';

/** The priority of requests that name none (0, as Triton's clients send it): the middle of 1 to 5. */
const DEFAULT_PRIORITY = 3;

/** A request's own limits, as its client gave them. */
export interface Demand extends Omit<Need, 'priority'> {
  /** 1 to 5, 1 goes first; 0 or left out for the default. */
  readonly priority?: number | undefined;
  /** Milliseconds from now on; the server's own limit where left out or larger. */
  readonly timeoutMs?: number | undefined;
  /** Aborts when the client goes away. */
  readonly signal: AbortSignal;
}

/** What work gets once it is admitted. */
export interface Admitted extends Required<RunOptions> {
  readonly waitedMs: number;
}

/** Waits for a place, then runs `work` in it with what is left of the request's time. Throws what either throws. */
export async function withPlace<T>(
  { admission, metrics, options }: ServerContext,
  { priority, timeoutMs = Infinity, signal, ...need }: Demand,
  work: (admitted: Admitted) => Promise<T>,
): Promise<T> {
  const limitMs = Math.min(timeoutMs, options.requestTimeoutMs);
  const place = await admission
    .enter({ ...need, priority: priority || DEFAULT_PRIORITY }, { signal, waitMs: limitMs })
    .catch((error: TurnoutError) => {
      metrics.refused(error.code);
      throw error;
    });
  try {
    const { waitedMs } = place;
    return await work({ signal, timeoutMs: Math.max(1, limitMs - waitedMs), waitedMs });
  } finally {
    place.release();
  }
}

/** Cache blocks that sequences of these lengths, in tokens, come to need. Throws TURNOUT_CONTEXT_EXCEEDED. */
export function blocksOf({ engine }: ServerContext, lengths: readonly number[]): number {
  const { cache, manifest } = engine.info;
  const { context } = manifest.sizes;
  const long = lengths.find((length) => length > context);
  if (long !== undefined) {
    const message = `the prompt and the tokens asked for are ${long} tokens, the model's context is ${context}`;
    throw new TurnoutError('TURNOUT_CONTEXT_EXCEEDED', message, { length: long, context });
  }
  return lengths.reduce((sum, length) => sum + Math.ceil(length / cache.block), 0);
}
