import { type MessagePort, workerData } from 'node:worker_threads';
import { TurnoutError } from '../errors.js';
import type { ExpertFile, Residency } from './backend.js';
import { type InlineBackend, openInline } from './inline.js';
import type { LaneResult, SentWork } from './lane.js';
import { answerAll, type Bell } from './line.js';
import { type Answer, answer } from './remote-error.js';
import { SharedCall } from './shared-call.js';
import { duringTask, type GuardState, hold, isEnding } from './thread-guard.js';

/* What runs in a carrier thread: an inline backend, the task that opens it, and the work of calls. */

/** The `workerData` of a carrier. */
export interface CarrierData {
  readonly lane: number;
  /** The experts that it holds, by their number in the whole backend, and their files. */
  readonly experts: readonly number[];
  readonly files: readonly ExpertFile[];
  readonly residency: Residency;
  readonly hidden?: number;
  /** Whether it stays awake for a while after its work; see `answerAll`. */
  readonly lingers: boolean;
  readonly guard: GuardState;
}

/** Where questions come from. */
export interface OpenTask {
  readonly port: MessagePort;
  readonly bell: Bell;
}

const { lane, experts: held, files, lingers, guard, ...options } = workerData as CarrierData;
const places = new Map(held.map((expert, place) => [expert, place]));
hold(guard, false);

/** Opens the experts and answers with H; the thread is there for work from then on. */
export function open({ port, bell }: OpenTask): Promise<Answer<number>> {
  return answer(async () => {
    const experts = await duringTask(guard, () => {
      checkAlive();
      return openInline(files, options);
    });
    // Once the answer is on its way.
    setImmediate(() => {
      void answerAll({ port, bell, lingers }, (task: SentWork) =>
        answer(() => duringTask(guard, () => compute(experts, task))),
      );
    });
    return experts.hidden;
  });
}

function compute(experts: InlineBackend, { call, ...work }: SentWork): Promise<LaneResult> {
  const options = { place: (key: number) => places.get(key)!, check: checkAlive };
  return experts.share({ ...work, call: new SharedCall(call) }, options);
}

function checkAlive(): void {
  if (isEnding(guard)) {
    throw new TurnoutError('TURNOUT_LANE_DIED', `lane ${lane} (thread) was ended while it computed`, {
      lane,
    });
  }
}
