import { TurnoutError } from '../errors.js';
import type { MoeLayer } from '../moe-layer.js';
import type { BadRow } from '../router/routing.js';

/** The error of a sequence whose row `position` could not be routed in a layer. */
export function problemOf(bad: BadRow, { index: layer }: MoeLayer, position: number): TurnoutError {
  const { problem, column: expert } = bad;
  const message = `layer ${layer}: the gate gave ${problem} for expert ${expert} at position ${position} of the sequence`;
  return new TurnoutError('TURNOUT_LOGITS_INVALID', message, { layer, position, problem, expert });
}

/** Whether a token can be chosen from them. A plain loop, because each sequence asks in each step. */
export function logitsValid(logits: Float32Array): boolean {
  for (let i = 0; i < logits.length; i++) {
    const value = logits[i]!;
    if (Number.isNaN(value) || value === Number.POSITIVE_INFINITY) return false;
  }
  return true;
}
