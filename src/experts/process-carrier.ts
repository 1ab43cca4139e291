import { parentPort, workerData } from 'node:worker_threads';
import { TurnoutError } from '../errors.js';
import { ExpertProcess, type TimeLimits } from './expert-process.js';
import type { LaneResult, SentWork } from './lane.js';
import type { Held } from './process-link.js';
import type { HeldExpert } from './process-messages.js';
import { computeTask } from './process-task.js';
import { type Answer, answer } from './remote-error.js';
import type { SpawnOptions } from './spawn.js';
import { ending, type GuardState, hold as holdThread } from './thread-guard.js';

/* What runs in a carrier thread that owns expert processes, and the tasks that its pool sends, many at a time. */

/** The `workerData` of a process carrier. */
export interface ProcessCarrierData {
  readonly guard: GuardState;
  readonly limits: TimeLimits;
}

/** Names one process: that of a lane, and the how manieth of its lane. */
export interface ProcessName {
  readonly lane: number;
  readonly start: number;
}

/** Told to the main thread, by itself, when a process is gone. */
export interface Died extends ProcessName {
  readonly reason: string;
}

export type ComputeTask = ProcessName & SentWork;

/** What came of it; `memory` as the process told last, where it computed anything. */
export type Computed = (LaneResult & { readonly memory?: Held['memory'] }) | { readonly died: string };

export interface Started extends Held {
  readonly pid: number;
}

/** How often processes that compute are looked at; idle ones every so many times. */
const WATCH_MS = 100;
const IDLE_EVERY = 10;

const { guard, limits } = workerData as ProcessCarrierData;
const processes = new Map<number, ExpertProcess & ProcessName>();
holdThread(guard, false);

let looks = 0;
setInterval(() => {
  looks++;
  for (const process of processes.values())
    if (process.busy || looks % IDLE_EVERY === 0) process.watch(limits);
}, WATCH_MS).unref();

// The thread ends after its processes, so that the system forgets them: nobody else can wait for them.
void ending(guard).then(() => {
  for (const process of processes.values()) process.kill('was ended with its carrier');
});

type StartTask = ProcessName & { readonly options: SpawnOptions; readonly files: readonly HeldExpert[] };

/** Starts a process, pins it and has it hold its experts. When that fails the process is gone before the answer. */
export function start({ lane, start, options, files }: StartTask): Promise<Answer<Started>> {
  return answer(async () => {
    const before = processes.get(lane);
    before?.kill();
    await before?.ended;
    const process = Object.assign(new ExpertProcess(options), { lane, start });
    processes.set(lane, process);
    holdThread(guard, true);
    const gone = process.ended.then((reason) => forget(process, reason));
    try {
      const held = await process.hold(files);
      return { ...held, pid: process.pid! };
    } catch (error) {
      process.kill();
      await gone;
      throw startError(error as Error, options);
    }
  });
}

function forget(process: ExpertProcess & ProcessName, reason: string): void {
  const { lane, start } = process;
  if (processes.get(lane) === process) processes.delete(lane);
  if (processes.size === 0) holdThread(guard, false);
  parentPort!.postMessage({ lane, start, reason } satisfies Died);
}

/** Has a process hold other experts. */
export function hold({
  files,
  ...name
}: ProcessName & { files: readonly HeldExpert[] }): Promise<Answer<Held>> {
  return answer(() => find(name).hold(files));
}

/** Computes the pieces that the process can take; where it dies, says why. */
export function compute(task: ComputeTask): Promise<Answer<Computed>> {
  return answer(async () => {
    try {
      return await computeTask(find(task), task);
    } catch (error) {
      const { code, message } = error as TurnoutError;
      if (code !== 'TURNOUT_LANE_DIED') throw error;
      return { died: message };
    }
  });
}

/** Lets the process end after its work; resolves when it is gone. */
export async function stop(lane: number): Promise<void> {
  await processes.get(lane)?.close();
}

function find({ lane, start }: ProcessName): ExpertProcess {
  const process = processes.get(lane);
  if (process?.start === start) return process;
  throw new TurnoutError('TURNOUT_LANE_DIED', 'is gone');
}

/** A process that cannot be pinned does not even become one of node: taskset ends, and says why. */
function startError(error: Error, { device }: SpawnOptions): Error {
  const [, why] = /taskset: (.*?)\)?$/m.exec(error.message) ?? [];
  if (why === undefined) return error;
  return new TurnoutError('TURNOUT_DEVICE_UNAVAILABLE', `${device.name}: ${why}`, { device: device.name });
}
