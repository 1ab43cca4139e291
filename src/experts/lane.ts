import type { TurnoutError } from '../errors.js';
import type { LaneStats } from './backend.js';
import type { StopFlag } from './limits.js';
import type { Placement } from './placement.js';

/** The rows of one lane in one layer call. The buffer is transferred to the lane and back. */
export interface LaneWork {
  /** `expert` is the key under which the lane holds it. */
  readonly batches: readonly { readonly expert: number; readonly rows: number }[];
  /** x [sum of rows, H] float32, in the order of the batches; it may be longer. */
  readonly buffer: ArrayBuffer;
  /** Absent where nothing can stop the call. */
  readonly stop?: StopFlag;
}

export interface LaneResult {
  /** y [sum of rows, H] float32, in the order of the batches; unfinished where stopped. */
  readonly buffer: ArrayBuffer;
  /** Batches and rows computed, and the milliseconds that they took. */
  readonly batches: number;
  readonly rows: number;
  readonly computeMs: number;
}

/** Work that a lane could not do because it died; x is as it came, so that another lane can do it. */
export interface LaneLoss {
  readonly died: TurnoutError;
  readonly buffer: ArrayBuffer;
}

/** A place that computes the work of one layer call at a time, in the order of arrival. */
export interface Lane {
  /**
   * Whether it computes the expert with this key at once (`now`), after it has started (`soon`), or not in this while
   * (`refuses`).
   */
  takes(key: number): 'now' | 'soon' | 'refuses';
  /** Throws what the experts throw, or TURNOUT_LANE_DIED where the rows are lost with the lane. */
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
