import { pieceRowsOf } from './placement.js';

/** What calls of some experts take, in milliseconds, in this thread and in ways that share them. */
export interface CallCosts {
  readonly lanes: number;
  /** Here: of one batch, its rows not counted, and of one row. */
  readonly batchMs: number;
  readonly rowMs: number;
  readonly joined: SharedCosts;
  readonly threads: SharedCosts;
}

/** Of calls that lanes share. */
export interface SharedCosts {
  /** Until lanes have begun and been heard. */
  readonly fixedMs: number;
  /**
   * What batches of few rows take all together, as a share of what they take here: 1 / lanes where lanes do not hinder
   * each other, 1 where one already takes all the memory's bandwidth.
   */
  readonly share: number;
}

/** Milliseconds of calls of `few` and of `many` batches with one row each, and (here alone) of `few` with `rows` each. */
export interface CallTimes {
  readonly lanes: number;
  readonly batches: { readonly few: number; readonly many: number };
  readonly rows: number;
  readonly here: FewAndMany & { readonly rows: number };
  readonly joined: FewAndMany;
  readonly threads: FewAndMany;
}

interface FewAndMany {
  readonly few: number;
  readonly many: number;
}

/** What every call of ONNX Runtime takes. */
const LEAST_BATCH_MS = 0.01;

/** The costs that such times come from; what noise alone can have made is cut off. */
export function costsOf({ lanes, batches, rows, here, ...shared }: CallTimes): CallCosts {
  const rowMs = Math.max(0, (here.rows - here.few) / (batches.few * (rows - 1)));
  const batchMs = Math.max(LEAST_BATCH_MS, here.many / batches.many - rowMs);
  const costs = ({ few, many }: FewAndMany): SharedCosts => {
    const slope = (many - few) / Math.max(here.many - here.few, Number.MIN_VALUE);
    const share = Math.min(1, Math.max(1 / lanes, slope));
    return { fixedMs: Math.max(0, few - share * here.few), share };
  };
  return { lanes, rowMs, batchMs, joined: costs(shared.joined), threads: costs(shared.threads) };
}

/** Rows that cost nothing are noise: so many of them cost more than any call. */
const MOST_CALL_ROWS = 1024;

/** What a call takes besides its rows, in rows. */
export function callRowsOf({ batchMs, rowMs }: Pick<CallCosts, 'batchMs' | 'rowMs'>): number {
  return Math.min(MOST_CALL_ROWS, batchMs / rowMs);
}

/** Batches of a call, their rows, and those of the largest one. */
export interface CallRows {
  readonly batches: number;
  readonly rows: number;
  readonly most: number;
}

/** In this thread alone, in this thread and all others but one, or in the others alone. */
export type Way = 'inline' | 'joined' | 'threads';

/** Milliseconds of ONNX calls, in one thread. */
export function workMs({ batchMs, rowMs }: CallCosts, { batches, rows }: Omit<CallRows, 'most'>): number {
  return batches * batchMs + rows * rowMs;
}

/** The longest piece that this thread may compute in one go, and the longest call that it may take part in, in milliseconds. */
export interface MostHere {
  readonly pieceMs: number;
  readonly callMs: number;
}

/** Milliseconds that a call is expected to take each way; for ever where this thread would be kept from its event loop for too long. */
export function expectedOf(costs: CallCosts, call: CallRows, most: MostHere): Record<Way, number> {
  const { lanes } = costs;
  const goes = (rows: number) => workMs(costs, { batches: 1, rows }) <= most.pieceMs;
  const here = (ms: number, fits: boolean) => (fits && ms <= most.callMs ? ms : Number.POSITIVE_INFINITY);
  // A batch that is larger than the part of a lane is split, and one of many pieces into some of half as many rows again at most.
  const largest = Math.min(call.most, Math.ceil(call.rows / lanes), 1.5 * pieceRowsOf(callRowsOf(costs)));
  const joins = lanes > 1 && goes(largest);
  return {
    inline: here(workMs(costs, call), goes(call.most)),
    joined: here(sharedMs(costs, 'joined', call), joins),
    threads: sharedMs(costs, 'threads', call),
  };
}

/** Rows that are worth a call of their own when a batch is split. */
const SPLIT_ROWS = 16;

function sharedMs(costs: CallCosts, way: 'joined' | 'threads', { batches, rows }: CallRows): number {
  const { lanes, batchMs, rowMs } = costs;
  const { fixedMs, share } = costs[way];
  const busy = Math.min(lanes, Math.max(batches, Math.floor(rows / SPLIT_ROWS)));
  return fixedMs + batches * batchMs * Math.max(share, 1 / busy) + (rows * rowMs) / busy;
}
