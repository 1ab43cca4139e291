import { TurnoutError } from '../errors.js';
import { matrix } from '../tensor.js';
import type { ExpertBatch } from './backend.js';

/** Values of one call's rows: 4 GiB of float32, the most that one ArrayBuffer is asked to hold. */
const MAX_CALL_VALUES = 2 ** 30;

/** All of the rows [n, H] for one expert. */
export function wholeBatch(expert: number, data: Float32Array, hidden: number): ExpertBatch {
  const x = matrix(data, data.length / hidden, hidden);
  return { expert, x, rows: Int32Array.from({ length: x.rows }, (_, row) => row) };
}

/** Throws TURNOUT_INPUT_INVALID where a batch names no expert of the backend, or no rows of hidden states of its H. */
export function checkBatches(
  batches: readonly ExpertBatch[],
  { experts, hidden }: { experts: number; hidden: number },
): void {
  let values = 0;
  for (const [i, batch] of batches.entries()) {
    const { expert, rows, x, scales } = batch;
    if (!Number.isInteger(expert) || expert < 0 || expert >= experts)
      throw invalid(i, batch, `an expert from 0 to ${experts - 1}`, expert, { experts });
    if (!(x?.data instanceof Float32Array))
      throw invalid(i, batch, 'x to be a matrix {rows, cols, data}', kindOf(x));
    if (!(rows instanceof Int32Array)) throw invalid(i, batch, 'rows to be an Int32Array', kindOf(rows));
    if (x.cols !== hidden) throw invalid(i, batch, `x [*, ${hidden}]`, `[${x.rows}, ${x.cols}]`);
    if (rows.length < 1) throw invalid(i, batch, 'at least one row', rows.length);
    for (let r = 0; r < rows.length; r++)
      if (!(rows[r]! >= 0 && rows[r]! < x.rows))
        throw invalid(i, batch, `rows from 0 to ${x.rows - 1}`, rows[r]!);
    if (scales && scales.length !== rows.length)
      throw invalid(i, batch, `${rows.length} scales, one for each row`, scales.length);
    values += rows.length * hidden;
  }
  if (values > MAX_CALL_VALUES) {
    const message = `expected at most ${MAX_CALL_VALUES} values in one call, got ${values}`;
    throw new TurnoutError('TURNOUT_INPUT_INVALID', message, { values, limit: MAX_CALL_VALUES });
  }
}

function invalid(
  i: number,
  { expert, rows }: ExpertBatch,
  expected: string,
  got: string | number,
  details = {},
): TurnoutError {
  const message = `batch ${i} of expert ${expert}: expected ${expected}, got ${got}`;
  return new TurnoutError('TURNOUT_INPUT_INVALID', message, {
    batch: i,
    expert,
    rows: rows.length,
    ...details,
  });
}

function kindOf(value: unknown): string {
  return typeof value === 'object' && value !== null ? value.constructor.name : String(value);
}
