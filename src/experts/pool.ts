import './telemetry.js';
import { once } from 'node:events';
import type { MessagePort, Worker } from 'node:worker_threads';
import { Piscina } from 'piscina';
import { type GuardState, guardState, protect } from './thread-guard.js';

export interface PoolOptions {
  /** Module whose exports are the tasks. */
  readonly filename: string;
  /** What a new thread gets as `workerData`. */
  readonly data: (guard: GuardState) => object;
  /** Tasks that the thread may have at the same time; 1 where left out. */
  readonly concurrent?: number;
  /** The thread has ended, and its tasks with it; the next task starts another. */
  readonly onLost: () => void;
  /** What the thread posts beside its answers. */
  readonly onMessage?: (message: unknown) => void;
}

/** One carrier thread in a pool of its own: piscina binds tasks to a thread only where there is no other. */
export class CarrierPool {
  /** Threads started, the one that runs included. */
  starts = 0;
  readonly #options: PoolOptions;
  /** Threads that have not exited: the one of the pool, and those that are ending. */
  readonly #threads = new Set<Worker>();
  #pool: Piscina | undefined;
  #closing = false;

  constructor(options: PoolOptions) {
    this.#options = options;
  }

  /** Throws where the thread ends before it has answered. */
  run<T>(name: string, task: unknown, transferList: MessagePort[] = []): Promise<T> {
    this.#pool ??= this.#start();
    return this.#pool.run(task, { name, transferList });
  }

  #start(): Piscina {
    const { filename, data, concurrent = 1, onMessage } = this.#options;
    const guard = guardState();
    const pool = new Piscina({
      filename,
      workerData: data(guard),
      minThreads: 1,
      maxThreads: 1,
      concurrentTasksPerWorker: concurrent,
      // As fast as 'sync' (30 us there and back, 'disabled' 80), and the idle thread's event loop goes on.
      atomics: 'async',
      recordTiming: false,
    });
    const [thread] = pool.threads;
    protect(thread!, guard, () => this.#lost(pool));
    this.#threads.add(thread!);
    thread!.once('exit', () => this.#threads.delete(thread!));
    // A thread that fails while idle is told of here and, like any other that ends, in `workerDestroy`.
    pool.on('error', () => {});
    pool.on('workerDestroy', () => this.#lost(pool));
    if (onMessage) pool.on('message', onMessage);
    this.starts++;
    return pool;
  }

  /** Drops the pool of a thread that ended, so that its waiting tasks fail too. */
  #lost(pool: Piscina): void {
    if (this.#closing || pool !== this.#pool) return;
    this.#pool = undefined;
    void pool.destroy();
    this.#options.onLost();
  }

  async close(): Promise<void> {
    this.#closing = true;
    const exits = [...this.#threads].map((thread) => {
      thread.ref();
      return once(thread, 'exit');
    });
    void this.#pool?.destroy();
    this.#pool = undefined;
    await Promise.allSettled(exits);
  }
}
