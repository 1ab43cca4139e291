import { TurnoutError } from '../errors.js';
import { type Matrix, row } from '../tensor.js';
import { unroutableRows } from './kernels/unroutable.js';
import type { BadRow, Routing } from './routing.js';

/** logits [T, E] -> the rows that cannot be routed, each with its first offending value. */
export function findBadRows(logits: Matrix): BadRow[] {
  return unroutableRows(logits).map((index) => {
    const values = row(logits, index);
    const column = values.findIndex((value) => Number.isNaN(value) || value === Infinity);
    if (column < 0) return { row: index, problem: 'all-negative-infinity', column: 0 };
    return { row: index, problem: values[column] === Infinity ? 'positive-infinity' : 'nan', column };
  });
}

/** Throws TURNOUT_LOGITS_INVALID for the first bad row of a routing, with row, column and value. */
export function assertGoodRows(routing: Pick<Routing, 'badRows' | 'logits'>): void {
  const [bad] = routing.badRows;
  if (bad === undefined) return;
  const { row: index, column } = bad;
  const value = row(routing.logits, index)[column];
  const what = bad.problem === 'all-negative-infinity' ? 'only -Infinity' : `${value} in column ${column}`;
  throw new TurnoutError('TURNOUT_LOGITS_INVALID', `row ${index} of the logits has ${what}`, {
    row: index,
    column,
    value,
    badRows: routing.badRows.length,
  });
}
