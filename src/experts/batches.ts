import { TurnoutError } from '../errors.js';
import type { ExpertBatch } from './backend.js';

/** Values of one call's rows: 4 GiB of float32, the most that one ArrayBuffer is asked to hold. */
const MAX_CALL_VALUES = 2 ** 30;

/** Throws TURNOUT_INPUT_INVALID where a batch names no expert of the backend or has no whole number of rows from 1 up. */
export function checkBatches(
  batches: readonly ExpertBatch[],
  backend: { experts: number; hidden: number },
): void {
  const { experts, hidden } = backend;
  let values = 0;
  for (const [i, { expert, rows }] of batches.entries()) {
    if (!Number.isInteger(expert) || expert < 0 || expert >= experts) {
      const message = `batch ${i}: expected an expert from 0 to ${experts - 1}, got ${expert}`;
      throw new TurnoutError('TURNOUT_INPUT_INVALID', message, { batch: i, expert, experts });
    }
    if (!Number.isInteger(rows) || rows < 1) {
      const message = `batch ${i} of expert ${expert}: expected at least one row, got ${rows}`;
      throw new TurnoutError('TURNOUT_INPUT_INVALID', message, { batch: i, expert, rows });
    }
    values += rows * hidden;
  }
  if (values > MAX_CALL_VALUES) {
    const message = `expected at most ${MAX_CALL_VALUES} values in one call, got ${values}`;
    throw new TurnoutError('TURNOUT_INPUT_INVALID', message, { values, limit: MAX_CALL_VALUES });
  }
}
