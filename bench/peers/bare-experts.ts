import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { Worker } from 'node:worker_threads';
import type { ExpertFile, Residency } from '../../src/experts/backend.js';
import type { Matrix } from '../../src/tensor.js';

/** One call of one expert. */
export type BareCall = ReadyCall | MovedCall;

/** x [n, H] lies ready, and y is thrown away. */
export interface ReadyCall {
  readonly expert: number;
  readonly x: Float32Array;
}

/** Its lane gathers rows [n] of a matrix in shared memory, and writes y [n, H] into shared memory. */
export interface MovedCall {
  readonly expert: number;
  readonly from: Matrix;
  readonly rows: Int32Array;
  readonly y: Float32Array;
}

/** Calls, and who makes them: lane i takes from queue i modulo their number, and lanes on one queue share it. */
export interface BareProgram {
  readonly calls: readonly BareCall[];
  /** Indexes of `calls`, in the order of their begin. */
  readonly queues: readonly (readonly number[])[];
}

/** Words of the memory that the lanes and this thread share; one for each queue follows, its calls that were taken. */
export const WORD = { signal: 0, command: 1, done: 2, calls: 3, queues: 4 } as const;
/** Commands that are no index of a program. */
export const COMMAND = { load: -1, end: -2 } as const;

export interface BareLaneData {
  readonly files: readonly ExpertFile[];
  readonly residency: Residency;
  readonly control: Int32Array;
  readonly lane: number;
}

const PROGRAM = fileURLToPath(new URL('./bare-lane.js', import.meta.url));
const TIMEOUT_MS = 60_000;

/**
 * What experts give with nothing around them: threads that hold all the experts (one thread of computing each)
 * and all calls before the clock starts. A run is one signal to the lanes and one from each, both by Atomics in shared
 * memory.
 */
export async function openBareExperts(
  files: readonly ExpertFile[],
  lanes: number,
  residency: Residency = 'packed',
): Promise<BareExperts> {
  const control = new Int32Array(new SharedArrayBuffer(4 * (WORD.queues + lanes)));
  const workers = Array.from({ length: lanes }, (_, lane) => {
    const workerData: BareLaneData = { files, residency, control, lane };
    return new Worker(PROGRAM, { workerData });
  });
  await Promise.all(workers.map((worker) => once(worker, 'message')));
  return new BareExperts(workers, control);
}

export class BareExperts implements AsyncDisposable {
  readonly #workers: readonly Worker[];
  readonly #control: Int32Array;
  #programs: readonly BareProgram[] = [];

  constructor(workers: readonly Worker[], control: Int32Array) {
    this.#workers = workers;
    this.#control = control;
  }

  /** Hands the lanes what they may be told to run. */
  load(programs: readonly BareProgram[]): void {
    this.#programs = programs;
    for (const worker of this.#workers) worker.postMessage(programs);
    this.#command(COMMAND.load);
  }

  /** Runs program `index`; blocks this thread. Throws where the lanes did not make all of its calls. */
  run(index: number): void {
    this.#control.fill(0, WORD.calls);
    this.#command(index);
    this.#checkCalls(index);
  }

  /** The same, while the event loop of this thread goes on. */
  async runAside(index: number): Promise<void> {
    this.#control.fill(0, WORD.calls);
    this.#tell(index);
    for (let done = this.#done(); done < this.#workers.length; done = this.#done()) {
      const { async, value } = Atomics.waitAsync(this.#control, WORD.done, done, TIMEOUT_MS);
      if (async && (await value) === 'timed-out') throw noAnswer();
    }
    this.#checkCalls(index);
  }

  #checkCalls(index: number): void {
    const expected = this.#programs[index]!.calls.length;
    const got = this.#control[WORD.calls]!;
    if (got !== expected) throw new Error(`bare experts: expected ${expected} calls, got ${got}`);
  }

  #command(command: number): void {
    this.#tell(command);
    for (let done = this.#done(); done < this.#workers.length; done = this.#done())
      if (Atomics.wait(this.#control, WORD.done, done, TIMEOUT_MS) === 'timed-out') throw noAnswer();
  }

  #tell(command: number): void {
    const control = this.#control;
    Atomics.store(control, WORD.done, 0);
    Atomics.store(control, WORD.command, command);
    Atomics.add(control, WORD.signal, 1);
    Atomics.notify(control, WORD.signal);
  }

  #done(): number {
    return Atomics.load(this.#control, WORD.done);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const exits = this.#workers.map((worker) => once(worker, 'exit'));
    this.#command(COMMAND.end);
    await Promise.all(exits);
  }
}

function noAnswer(): Error {
  return new Error(`bare experts: no answer in ${TIMEOUT_MS} ms`);
}
