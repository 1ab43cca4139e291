import { setTimeout as sleep } from 'node:timers/promises';
import type { Worker } from 'node:worker_threads';

/*
 * A thread that ends inside an ONNX call takes the whole process with it: onnxruntime-node 1.30 cannot hand over its
 * result and aborts. So whoever ends a thread that computes, or the process, first waits for the call to end.
 */

/** Shared by a thread and its owner: [0] not 0 once the thread is to end, [1] not 0 while it must not. */
export type GuardState = Int32Array;
const ENDING = 0;
const TASKS = 1;

/** No expert call is as long; past it the process ends as it would have without a guard. */
const MAX_EXIT_WAIT_MS = 10_000;

/** A state for one thread: hand it over in `workerData`, and `protect` the thread with it. */
export function guardState(): GuardState {
  return new Int32Array(new SharedArrayBuffer(2 * Int32Array.BYTES_PER_ELEMENT));
}

const guarded = new Set<GuardState>();

/**
 * Makes `terminate()` of the thread, and the end of this process or thread, wait for the task under way.
 * `onTerminate` hears of the first at once.
 */
export function protect(worker: Worker, state: GuardState, onTerminate: () => void): void {
  const terminate = worker.terminate.bind(worker);
  worker.terminate = async () => {
    tellEnd(state);
    onTerminate();
    while (Atomics.load(state, TASKS) > 0) await sleep(1);
    return terminate();
  };
  if (guarded.size === 0) process.on('exit', waitForAll);
  guarded.add(state);
  worker.once('exit', () => {
    guarded.delete(state);
    if (guarded.size === 0) process.off('exit', waitForAll);
  });
}

function waitForAll(): void {
  for (const state of guarded) tellEnd(state);
  for (const state of guarded) Atomics.wait(state, TASKS, 1, MAX_EXIT_WAIT_MS);
}

function tellEnd(state: GuardState): void {
  Atomics.store(state, ENDING, 1);
  Atomics.notify(state, ENDING);
}

/** In a thread that never blocks: resolves when it is to end. */
export async function ending(state: GuardState): Promise<void> {
  while (!isEnding(state)) {
    const { async, value } = Atomics.waitAsync(state, ENDING, 0);
    if (async) await value;
  }
}

/** In the thread: whether it must not end yet. */
export function hold(state: GuardState, held: boolean): void {
  Atomics.store(state, TASKS, held ? 1 : 0);
  if (!held) Atomics.notify(state, TASKS);
}

/** In the thread: runs a task that calls ONNX; one at a time. The task looks at `isEnding` between its calls. */
export async function duringTask<T>(state: GuardState, task: () => Promise<T>): Promise<T> {
  hold(state, true);
  try {
    return await task();
  } finally {
    hold(state, false);
  }
}

export function isEnding(state: GuardState): boolean {
  return Atomics.load(state, ENDING) !== 0;
}
