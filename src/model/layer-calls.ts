import { TurnoutError } from '../errors.js';
import type { MoeLayer, StageTimes } from '../moe-layer.js';
import type { Routing } from '../router/routing.js';
import { sliceRouting } from '../router/slice.js';
import { type Matrix, matrix } from '../tensor.js';
import { problemOf } from './bad-logits.js';

/** What one caller brings to a layer: a sequence of its own. */
export interface LayerRequest {
  /** Hidden states [T, H]. */
  readonly x: Matrix;
  /** [T, E] logits for a layer without a gate. */
  readonly logits?: Matrix;
  readonly signal?: AbortSignal;
}

export interface LayerAnswer {
  /** [T, H] */
  readonly y: Matrix;
  readonly routing: Routing;
  /** Of the call that it shared. */
  readonly times: StageTimes;
}

interface Waiting extends LayerRequest {
  resolve(answer: LayerAnswer): void;
  reject(error: unknown): void;
}

/** Rows that share a call, at most: larger ones make no call cheaper, and hold everybody up. */
const MAX_ROWS = 1024;

/** One layer as a service: requests that come while it computes share its next call, each as a sequence of its own. */
export class LayerCalls {
  readonly #layer: MoeLayer;
  #waiting: Waiting[] = [];
  #running: Promise<void> | undefined;

  constructor(layer: MoeLayer) {
    this.#layer = layer;
  }

  /**
   * x [T,H] -> y [T,H] with its own routing. Throws TURNOUT_SHAPE_MISMATCH, TURNOUT_INPUT_INVALID (NaN or infinity in x),
   * TURNOUT_LOGITS_INVALID, TURNOUT_ABORTED, and what the backend throws.
   */
  async run(request: LayerRequest): Promise<LayerAnswer> {
    this.#check(request);
    const answer = new Promise<LayerAnswer>((resolve, reject) => {
      this.#waiting.push({ ...request, resolve, reject });
    });
    this.#running ??= this.#drive().finally(() => {
      this.#running = undefined;
    });
    return answer;
  }

  async #drive(): Promise<void> {
    while (this.#waiting.length > 0) {
      const batch = this.#take();
      try {
        await this.#compute(batch);
      } catch (error) {
        for (const { reject } of batch) reject(error);
      }
    }
  }

  /** The next requests, in order, that can share a call: those with logits apart, and all alone under a rule where they would compete. */
  #take(): Waiting[] {
    for (const { signal, reject } of this.#waiting) if (signal?.aborted) reject(aborted(signal));
    this.#waiting = this.#waiting.filter(({ signal }) => !signal?.aborted);
    const [first] = this.#waiting;
    if (!first) return [];
    let rows = first.x.rows;
    let count = 1;
    while (this.#layer.router.isolated && count < this.#waiting.length) {
      const next = this.#waiting[count]!;
      rows += next.x.rows;
      if (rows > MAX_ROWS || (next.logits === undefined) !== (first.logits === undefined)) break;
      count++;
    }
    return this.#waiting.splice(0, count);
  }

  async #compute(batch: readonly Waiting[]): Promise<void> {
    if (batch.length === 0) return;
    const logits = batch[0]!.logits ? joinRows(batch.map((request) => request.logits!)) : undefined;
    const { y, routing, times } = await this.#layer.forward(joinRows(batch.map(({ x }) => x)), {
      ...(logits && { logits }),
      badRows: 'report',
      // Keyed alike, so that a request is routed the same in any company.
      sequences: batch.map(({ x }) => ({ length: x.rows, request: 0 })),
    });
    let start = 0;
    for (const [i, { x, resolve, reject }] of batch.entries()) {
      const own = sliceRouting(routing, start, x.rows, i);
      const [bad] = own.badRows;
      const data = y.data.slice(start * y.cols, (start + x.rows) * y.cols);
      if (bad) reject(problemOf(bad, this.#layer, bad.row));
      else resolve({ y: matrix(data, x.rows, y.cols), routing: own, times });
      start += x.rows;
    }
  }

  #check({ x, logits }: LayerRequest): void {
    const { hidden, router, name } = this.#layer;
    checkShape(`${name}: hidden states`, x, hidden);
    checkFinite('hidden states', x);
    if (!logits) return;
    checkShape(`${name}: router logits`, logits, router.experts);
    if (logits.rows === x.rows) return;
    const message = `${name}: expected router logits of ${x.rows} rows, as hidden states have, got ${logits.rows}`;
    throw new TurnoutError('TURNOUT_SHAPE_MISMATCH', message, { expected: x.rows, got: logits.rows });
  }
}

function checkShape(what: string, { rows, cols }: Matrix, expected: number): void {
  if (cols === expected) return;
  const message = `${what}: expected [T, ${expected}], got [${rows}, ${cols}]`;
  throw new TurnoutError('TURNOUT_SHAPE_MISMATCH', message, { expected, got: cols });
}

function checkFinite(what: string, { data, cols }: Matrix): void {
  const at = data.findIndex((value) => !Number.isFinite(value));
  if (at < 0) return;
  const [row, column] = [Math.floor(at / cols), at % cols];
  const message = `${what}: expected finite numbers, got ${data[at]} in row ${row}, column ${column}`;
  throw new TurnoutError('TURNOUT_INPUT_INVALID', message, { row, column });
}

function joinRows(parts: readonly Matrix[]): Matrix {
  const [first] = parts;
  if (parts.length === 1) return first!;
  const rows = parts.reduce((sum, part) => sum + part.rows, 0);
  const data = new Float32Array(rows * first!.cols);
  let at = 0;
  for (const part of parts) {
    data.set(part.data, at);
    at += part.data.length;
  }
  return matrix(data, rows, first!.cols);
}

function aborted(signal: AbortSignal): TurnoutError {
  return new TurnoutError('TURNOUT_ABORTED', 'the call was aborted', {}, { cause: signal.reason });
}
