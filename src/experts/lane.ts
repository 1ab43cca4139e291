import type { TurnoutError } from '../errors.js';
import type { LaneStats } from './backend.js';
import type { StopFlag } from './limits.js';
import type { Placement } from './placement.js';
import type { SharedCall, SharedCallHandle } from './shared-call.js';

/** The part of one lane in one layer call. */
export interface LaneWork {
  readonly call: SharedCall;
  /** Its number among the tasks of the call, from 1 up. */
  readonly task: number;
  /** Pieces of the call to take, in this order: `own` that are meant for it, then those that it may take off others. */
  readonly pieces: readonly number[];
  readonly own: number;
  /** Absent where nothing can stop the call. */
  readonly stop?: StopFlag;
}

/** The same on its way to another thread. */
export interface SentWork extends Omit<LaneWork, 'call'> {
  readonly call: SharedCallHandle;
}

/** Batches and rows computed, and the milliseconds that they took. */
export interface LaneResult {
  readonly batches: number;
  readonly rows: number;
  readonly computeMs: number;
}

/** Why a lane could not do its work: it died. What it took it will not touch any more. */
export interface LaneLoss {
  readonly died: TurnoutError;
}

/** A place that computes its parts of layer calls one at a time, in the order of arrival. */
export interface Lane {
  /**
   * Whether it computes the expert with this key at once (`now`), after it has started (`soon`), or not in this while
   * (`refuses`).
   */
  takes(key: number): 'now' | 'soon' | 'refuses';
  /**
   * Resolves when its own pieces are done or taken by others; unfinished where stopped. Throws what the experts throw,
   * or TURNOUT_LANE_DIED where the call cannot go on without it.
   */
  compute(work: LaneWork): Promise<LaneResult | LaneLoss>;
  stats(): Omit<LaneStats, 'experts'>;
  close(): Promise<void>;
}

/** What calls see from their begin to their end: who holds which version of which expert. */
export interface Generation {
  readonly lanes: readonly Lane[];
  readonly placement: Placement;
  /** [E] the key under which lanes hold each expert: a new version has a new key. */
  readonly keys: readonly number[];
}
