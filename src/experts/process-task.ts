import type { ExpertProcess } from './expert-process.js';
import type { SentWork } from './lane.js';
import { isStopped } from './limits.js';
import type { Ran } from './process-link.js';
import { SharedCall } from './shared-call.js';

/**
 * Has a process compute the pieces of one task that it can take: its own in one message, then, one by one, those that
 * others have not begun. On a machine whose cores all compute, a message between two parts waits for a core longer than
 * sharing its own out piece by piece would gain.
 * Throws TURNOUT_LANE_DIED where the process ends first: it touches nothing of the call any more then.
 */
export async function computeTask(process: ExpertProcess, task: SentWork) {
  const call = new SharedCall(task.call);
  const done = { batches: 0, rows: 0, computeMs: 0 };
  let memory: Ran['memory'] | undefined;
  const others = task.pieces.slice(task.own).map((i) => [i]);
  for (const part of [task.pieces.slice(0, task.own), ...others]) {
    if (isStopped(task.stop)) break;
    const taken = part.filter((i) => call.take(i, task.task));
    if (taken.length === 0) continue;
    const ran = await computeTaken(process, task, { call, taken });
    for (const key of ['batches', 'rows', 'computeMs'] as const) done[key] += ran[key];
    memory = ran.memory;
  }
  return { ...done, ...(memory && { memory }) };
}

async function computeTaken(
  process: ExpertProcess,
  { stop }: SentWork,
  { call, taken }: { readonly call: SharedCall; readonly taken: readonly number[] },
): Promise<Ran> {
  const batches = taken.map((i) => {
    const piece = call.piece(i);
    const x = call.y(piece);
    call.gather(piece, x);
    return { key: piece.key, x };
  });
  const ran = await process.run({ batches, ...(stop && { stop }) }, call.handle.hidden);
  // One that was stopped has answered unfinished.
  if (ran.batches === taken.length) for (const i of taken) call.whole(i);
  return ran;
}
