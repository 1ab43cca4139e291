import { workerData } from 'node:worker_threads';
import { TurnoutError } from '../errors.js';
import type { ExpertFile, Residency } from './backend.js';
import { type InlineBackend, openInline } from './inline.js';
import type { LaneResult, LaneWork } from './lane.js';
import { isStopped } from './limits.js';
import { type Answer, answer } from './remote-error.js';
import { duringTask, type GuardState, isEnding } from './thread-guard.js';
import { transferring } from './transferring.js';

/* What runs in a carrier thread: an inline backend, and the two tasks that its pool sends, one at a time. */

/** The `workerData` of a carrier. */
export interface CarrierData {
  readonly lane: number;
  /** The experts that it holds, by their number in the whole backend, and their files. */
  readonly experts: readonly number[];
  readonly files: readonly ExpertFile[];
  readonly residency: Residency;
  readonly hidden?: number;
  readonly guard: GuardState;
}

const { lane, experts: held, files, guard, ...options } = workerData as CarrierData;
const places = new Map(held.map((expert, place) => [expert, place]));
let backend: InlineBackend | undefined;

/** Opens the experts and answers with H. */
export function open(): Promise<Answer<number>> {
  return answer(() => duringTask(guard, async () => (await experts()).hidden));
}

/** Computes the batches one after the other, writing y over x; stops between two where nobody waits any more. */
export async function compute(work: LaneWork): Promise<Answer<LaneResult>> {
  const result = await answer(() => duringTask(guard, () => computeAll(work)));
  return 'error' in result ? result : transferring(result, work.buffer);
}

async function experts(): Promise<InlineBackend> {
  checkAlive();
  backend ??= await openInline(files, options);
  return backend;
}

async function computeAll({ batches, buffer, stop }: LaneWork): Promise<LaneResult> {
  const open = await experts();
  const started = performance.now();
  const done = { batches: 0, rows: 0 };
  for (const { expert, rows } of batches) {
    if (isStopped(stop)) break;
    const view = new Float32Array(buffer, done.rows * open.hidden * 4, rows * open.hidden);
    view.set(await open.compute(places.get(expert)!, view));
    done.batches++;
    done.rows += rows;
    checkAlive();
  }
  return { buffer, ...done, computeMs: performance.now() - started };
}

function checkAlive(): void {
  if (isEnding(guard)) {
    throw new TurnoutError('TURNOUT_LANE_DIED', `lane ${lane} (thread) was ended while it computed`, {
      lane,
    });
  }
}
