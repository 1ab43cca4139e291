import { TurnoutError } from '../errors.js';
import type { Matrix } from '../tensor.js';
import type { BadRow, Routing } from './routing.js';

/** logits [T, E] -> the rows that cannot be routed, each with its first offending value. */
export function findBadRows(logits: Matrix): BadRow[] {
  const found: BadRow[] = [];
  for (let row = 0; row < logits.rows; row++) {
    let allowed = 0;
    let column = 0;
    for (; column < logits.cols; column++) {
      const value = logits.data[row * logits.cols + column];
      if (Number.isNaN(value) || value === Infinity) break;
      if (value !== -Infinity) allowed++;
    }
    if (column < logits.cols) {
      const nan = Number.isNaN(logits.data[row * logits.cols + column]);
      found.push({ row, problem: nan ? 'nan' : 'positive-infinity', column });
    } else if (allowed === 0) {
      found.push({ row, problem: 'all-negative-infinity', column: 0 });
    }
  }
  return found;
}

/** Throws TURNOUT_LOGITS_INVALID for the first bad row of a routing, with row, column and value. */
export function assertGoodRows(routing: Pick<Routing, 'badRows' | 'logits'>): void {
  const [bad] = routing.badRows;
  if (bad === undefined) return;
  const { row, column } = bad;
  const value = routing.logits.data[row * routing.logits.cols + column];
  const what = bad.problem === 'all-negative-infinity' ? 'only -Infinity' : `${value} in column ${column}`;
  throw new TurnoutError('TURNOUT_LOGITS_INVALID', `row ${row} of the logits has ${what}`, {
    row,
    column,
    value,
    badRows: routing.badRows.length,
  });
}
