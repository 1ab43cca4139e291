/** Milliseconds of a call: a part of every call, one of each batch in it and one of each row. */
export interface CostLine {
  readonly callMs: number;
  readonly batchMs: number;
  readonly rowMs: number;
}

/** What calls took: of one batch with one row, of `batches` with one row each, and of `batches` with `rows` each. */
export interface CostSamples {
  readonly batches: number;
  readonly rows: number;
  readonly oneMs: number;
  readonly batchesMs: number;
  readonly rowsMs: number;
}

/** The line through three samples; no part is less than 0, as noise would have it. */
export function fitCosts({ batches, rows, oneMs, batchesMs, rowsMs }: CostSamples): CostLine {
  const rowMs = Math.max(0, (rowsMs - batchesMs) / (batches * (rows - 1)));
  const perBatch = Math.max(rowMs, (batchesMs - oneMs) / (batches - 1));
  return { callMs: Math.max(0, oneMs - perBatch), batchMs: perBatch - rowMs, rowMs };
}

/** Milliseconds that a call is expected to take. */
export function costOf({ callMs, batchMs, rowMs }: CostLine, batches: number, rows: number): number {
  return callMs + batches * batchMs + rows * rowMs;
}
