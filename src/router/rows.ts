import { TurnoutError } from '../errors.js';
import type { Matrix } from '../tensor.js';
import { findBadRows } from './bad-rows.js';
import { once } from './lazy.js';
import type { BadRow, RequestState, RouterInput } from './routing.js';

/** One sequence of a call, with its defaults filled in. */
export interface Span {
  /** First row in the call. */
  readonly start: number;
  readonly length: number;
  readonly request: number;
  readonly state: RequestState;
}

/** The rows of a call: checked, and told to whom they belong. */
export interface Rows {
  readonly spans: readonly Span[];
  readonly badRows: readonly BadRow[];
  /** [T] 1 where the row cannot be routed. */
  readonly bad: Uint8Array;
  /** What keys the random numbers of row t. */
  source(t: number): { request: number; position: number; layer: number };
}

/**
 * Checks the shapes of a call and finds its bad rows. Throws TURNOUT_SHAPE_MISMATCH where a matrix, the sequences
 * or a state do not fit [T, E], and TURNOUT_INPUT_INVALID for a sequence length that is no whole number,
 * noise that is not finite, or uniform numbers outside [0, 1).
 */
export function readRows(input: RouterInput, experts: number, choices: number): Rows {
  const T = input.logits.rows;
  checkMatrix('logits', input.logits, T, experts);
  if (input.noise) checkMatrix('noise', input.noise, T, experts);
  if (input.noiseScale) checkMatrix('noiseScale', input.noiseScale, T, experts);
  if (input.uniforms) checkMatrix('uniforms', input.uniforms, T, choices);
  if (input.tokenIds && input.tokenIds.length !== T)
    mismatch('tokenIds', `[${T}]`, `[${input.tokenIds.length}]`);
  checkRandom('noise', input.noise, Number.isFinite);
  checkRandom('noiseScale', input.noiseScale, Number.isFinite);
  checkRandom('uniforms', input.uniforms, (u) => u >= 0 && u <= 1);
  const spans = readSpans(input, T, experts);
  const spanOf = once(() => spanOfRow(spans, T));
  const badRows = findBadRows(input.logits);
  const bad = new Uint8Array(T);
  for (const { row } of badRows) bad[row] = 1;
  const layer = input.layer ?? 0;
  const source = (t: number) => {
    const { start, request, state } = spans[spanOf()[t]];
    return { request, position: state.position + t - start, layer };
  };
  return { spans, badRows, bad, source };
}

function mismatch(name: string, expected: string, got: string): never {
  throw new TurnoutError('TURNOUT_SHAPE_MISMATCH', `${name}: expected ${expected}, got ${got}`, {
    name,
    expected,
    got,
  });
}

function checkMatrix(name: string, m: Matrix, rows: number, cols: number): void {
  if (m.rows !== rows || m.cols !== cols) mismatch(name, `[${rows}, ${cols}]`, `[${m.rows}, ${m.cols}]`);
  if (m.data.length !== rows * cols) mismatch(name, `${rows * cols} values`, `${m.data.length}`);
}

/** A number that is not random at all would choose experts in silence. */
function checkRandom(name: string, m: Matrix | undefined, valid: (value: number) => boolean): void {
  const index = m?.data.findIndex((value) => !valid(value)) ?? -1;
  if (!m || index < 0) return;
  const at = { row: Math.floor(index / m.cols), column: index % m.cols, value: m.data[index] };
  // 1 itself passes: a number just below it becomes 1 in float32.
  const range = name === 'uniforms' ? 'a number in [0, 1)' : 'a finite number';
  throw new TurnoutError(
    'TURNOUT_INPUT_INVALID',
    `${name}, row ${at.row}, column ${at.column}: expected ${range}, got ${at.value}`,
    at,
  );
}

function readSpans(input: RouterInput, T: number, experts: number): Span[] {
  let start = 0;
  const spans = (input.sequences ?? [{ length: T }]).map(({ length, request, state }, s): Span => {
    if (!Number.isInteger(length) || length < 0) {
      throw new TurnoutError(
        'TURNOUT_INPUT_INVALID',
        `sequences[${s}]: expected a whole number of rows from 0, got ${length}`,
        { sequence: s, length },
      );
    }
    if (state && state.kept.length !== experts) {
      mismatch(`sequences[${s}].state.kept`, `[${experts}]`, `[${state.kept.length}]`);
    }
    const span = { start, length, request: request ?? s, state: state ?? newState(experts) };
    start += length;
    return span;
  });
  if (start !== T) mismatch('sequences', `lengths that sum to T = ${T}`, `a sum of ${start}`);
  return spans;
}

/** [T] index of the span of each row. */
function spanOfRow(spans: readonly Span[], T: number): Int32Array {
  const spanOf = new Int32Array(T);
  spans.forEach(({ start, length }, s) => {
    spanOf.fill(s, start, start + length);
  });
  return spanOf;
}

function newState(experts: number): RequestState {
  return { position: 0, kept: new Int32Array(experts) };
}
