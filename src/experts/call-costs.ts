/** What calls of some experts take, here and on lanes. */
export interface CallCosts {
  readonly lanes: number;
  /** Milliseconds here of one batch, its rows not counted, and of one row. */
  readonly batchMs: number;
  readonly rowMs: number;
  /** Milliseconds until lanes have begun and been heard. */
  readonly wakeMs: number;
  /**
   * What batches of few rows take on all lanes together, as a share of what they take here: 1 / lanes where lanes do not
   * hinder each other, 1 where one already takes all the memory's bandwidth.
   */
  readonly share: number;
}

/** Milliseconds of calls of one batch with one row, of `batches` with one each, and (here alone) of `batches` with `rows` each. */
export interface CallTimes {
  readonly lanes: number;
  readonly batches: number;
  readonly rows: number;
  readonly here: { readonly one: number; readonly batches: number; readonly rows: number };
  readonly there: { readonly one: number; readonly batches: number };
}

/** The costs that such times come from; what noise alone can have made is cut off. */
export function costsOf({ lanes, batches, rows, here, there }: CallTimes): CallCosts {
  const rowMs = Math.max(0, (here.rows - here.batches) / (batches * (rows - 1)));
  const batchMs = Math.max(0, here.batches / batches - rowMs);
  const wakeMs = Math.max(0, there.one - here.one);
  const share = (there.batches - wakeMs) / here.batches;
  return { lanes, rowMs, batchMs, wakeMs, share: Math.min(1, Math.max(1 / lanes, share)) };
}

export function msHere({ batchMs, rowMs }: CallCosts, batches: number, rows: number): number {
  return batches * batchMs + rows * rowMs;
}

/** Rows that are worth a call of their own when a batch is split. */
const SPLIT_ROWS = 16;

export function msOnLanes(costs: CallCosts, batches: number, rows: number): number {
  const { lanes, batchMs, rowMs, wakeMs, share } = costs;
  const busy = Math.min(lanes, Math.max(batches, Math.floor(rows / SPLIT_ROWS)));
  return wakeMs + batches * batchMs * Math.max(share, 1 / busy) + (rows * rowMs) / busy;
}
