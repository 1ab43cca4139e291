import { discard } from './discard.js';
import type { InlineBackend } from './inline.js';
import type { LaneResult, LaneWork } from './lane.js';
import { isStopped } from './limits.js';
import { copyValues } from './shared-call.js';

export interface PieceOptions {
  /** The number of the expert with this key among those of the backend. */
  readonly place: (key: number) => number;
  /** Memory for x of one piece, which may hold anything: ONNX Runtime takes no shared memory. */
  readonly room: (values: number) => Float32Array;
  /** Called before each piece; what it throws ends the work. */
  readonly check?: () => void;
}

/** Computes the pieces that it can take, in this thread; stops between two where nobody waits any more. */
export async function computePieces(
  experts: Pick<InlineBackend, 'compute' | 'hidden'>,
  { call, task, pieces, stop }: LaneWork,
  { place, room, check }: PieceOptions,
): Promise<LaneResult> {
  const done = { batches: 0, rows: 0, computeMs: 0 };
  for (const i of pieces) {
    if (isStopped(stop)) break;
    check?.();
    if (!call.take(i, task)) continue;
    const started = performance.now();
    const piece = call.piece(i);
    const x = room(piece.rows * experts.hidden);
    call.gather(piece, x);
    const y = await experts.compute(place(piece.key), x);
    copyValues(y, call.y(piece));
    discard(y);
    call.whole(i);
    done.batches++;
    done.rows += piece.rows;
    done.computeMs += performance.now() - started;
  }
  return done;
}
