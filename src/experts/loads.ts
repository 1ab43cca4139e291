import type { ExpertBatch } from './backend.js';
import type { BufferPool } from './buffers.js';
import type { Piece } from './placement.js';

/** The part of a call that goes to one lane. The buffer is transferred to it and back. */
export interface Load {
  readonly lane: number;
  readonly pieces: readonly Piece[];
  /** x [sum of rows, H] float32, in the order of the pieces; it may be longer. */
  readonly buffer: ArrayBuffer;
}

/**
 * Gathers each batch once: straight into the buffer of its lane, or by way of its own where lanes share it. Lane by lane,
 * so that the first can begin while rows are gathered for the next.
 */
export function* gatherLoads(
  batches: readonly ExpertBatch[],
  spread: readonly (readonly Piece[])[],
  { hidden, buffers }: { hidden: number; buffers: BufferPool },
): Generator<Load> {
  const shared = new Map<number, Float32Array>();
  for (const [lane, pieces] of spread.entries()) {
    if (pieces.length === 0) continue;
    const rows = pieces.reduce((sum, piece) => sum + piece.rows, 0);
    const buffer = buffers.take(rows * hidden * 4);
    const x = new Float32Array(buffer, 0, rows * hidden);
    let offset = 0;
    for (const piece of pieces) {
      const batch = batches[piece.batch]!;
      if (piece.rows === batch.rows) {
        batch.gather(x, offset);
      } else {
        const all = shared.get(piece.batch) ?? new Float32Array(batch.rows * hidden);
        if (!shared.has(piece.batch)) batch.gather(all, 0);
        shared.set(piece.batch, all);
        x.set(all.subarray(piece.start * hidden, (piece.start + piece.rows) * hidden), offset);
      }
      offset += piece.rows * hidden;
    }
    yield { lane, pieces, buffer };
  }
}

/** The pieces of a load as batches of a call of its own, which gather from `buffer`: what a lane did not compute. */
export function batchesOf(
  { pieces }: Load,
  buffer: ArrayBuffer,
  call: { batches: readonly ExpertBatch[]; hidden: number },
): ExpertBatch[] {
  let row = 0;
  return pieces.map(({ batch, rows }) => {
    const x = new Float32Array(buffer, row * call.hidden * 4, rows * call.hidden);
    row += rows;
    return { expert: call.batches[batch]!.expert, rows, gather: (into, offset) => into.set(x, offset) };
  });
}

/** What came of one load: y of each piece [n, H], undefined where the expert was lost. */
export interface Answered {
  readonly pieces: readonly Piece[];
  readonly outputs: readonly (Float32Array | undefined)[];
}

/** y of each piece of a load that a lane answered: views of its buffer. */
export function viewsOf(pieces: readonly Piece[], buffer: ArrayBuffer, hidden: number): Float32Array[] {
  let row = 0;
  return pieces.map(({ rows }) => {
    const y = new Float32Array(buffer, row * hidden * 4, rows * hidden);
    row += rows;
    return y;
  });
}

/** The outputs of the batches, in their order; undefined where a piece was lost. Pieces of one batch are put together. */
export function scatter(
  batches: readonly ExpertBatch[],
  answered: readonly Answered[],
  hidden: number,
): (Float32Array | undefined)[] {
  const outputs = new Array<Float32Array | undefined>(batches.length);
  const lost = new Set<number>();
  for (const { pieces, outputs: parts } of answered) {
    for (const [i, { batch, start, rows }] of pieces.entries()) {
      const y = parts[i];
      const all = batches[batch]!.rows;
      if (!y) {
        lost.add(batch);
      } else if (rows === all) {
        outputs[batch] = y;
      } else {
        outputs[batch] ??= new Float32Array(all * hidden);
        outputs[batch].set(y, start * hidden);
      }
    }
  }
  for (const batch of lost) outputs[batch] = undefined;
  return outputs;
}
