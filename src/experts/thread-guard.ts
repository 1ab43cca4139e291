import { setTimeout as sleep } from 'node:timers/promises';
import type { Worker } from 'node:worker_threads';

/*
 * A thread that ends inside a call of ONNX Runtime takes the whole process with it: onnxruntime-node 1.30 cannot hand
 * over its result and aborts. So whoever ends a thread that computes, or the process, first waits for the call to end.
 */

/** Two int32, shared by a thread and its owner: whether it is to end (not 0), and how it stands. */
export type GuardState = Int32Array;
const ENDING = 0;
const STANDING = 1;

/** How a thread stands. The step from idle to any other is one only: a thread never computes that its owner ends. */
const STAND = { idle: 0, held: 1, ended: 2 } as const;

/** No expert call is as long; past it the process ends as it would have without a guard. */
const MAX_EXIT_WAIT_MS = 10_000;

/**
 * A state for one thread: hand it over in `workerData`, and `protect` the thread with it. It is held from the begin, for
 * ONNX Runtime cannot be loaded by a thread that ends either: its program releases it.
 */
export function guardState(): GuardState {
  const state = new Int32Array(new SharedArrayBuffer(2 * Int32Array.BYTES_PER_ELEMENT));
  state[STANDING] = STAND.held;
  return state;
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
    while (!mayEnd(state)) await sleep(1);
    return terminate();
  };
  if (guarded.size === 0) process.on('exit', waitForAll);
  guarded.add(state);
  worker.once('exit', () => {
    Atomics.store(state, STANDING, STAND.ended);
    guarded.delete(state);
    if (guarded.size === 0) process.off('exit', waitForAll);
  });
}

function waitForAll(): void {
  for (const state of guarded) tellEnd(state);
  for (const state of guarded) {
    const until = performance.now() + MAX_EXIT_WAIT_MS;
    while (!mayEnd(state) && performance.now() < until)
      Atomics.wait(state, STANDING, STAND.held, until - performance.now());
  }
}

/** The owner's: whether the thread is not held, and then cannot be any more. */
function mayEnd(state: GuardState): boolean {
  return Atomics.compareExchange(state, STANDING, STAND.idle, STAND.ended) !== STAND.held;
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

/** In the thread: whether it must not end yet. Does not come back where its owner is ending it by now. */
export function hold(state: GuardState, held: boolean): void {
  if (held) {
    const stood = Atomics.compareExchange(state, STANDING, STAND.idle, STAND.held);
    if (stood === STAND.ended) Atomics.wait(state, STANDING, STAND.ended);
  } else {
    Atomics.compareExchange(state, STANDING, STAND.held, STAND.idle);
    Atomics.notify(state, STANDING);
  }
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
