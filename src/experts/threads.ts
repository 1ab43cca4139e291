import { once } from 'node:events';
import { availableParallelism } from 'node:os';
import { fileURLToPath } from 'node:url';
import type { Worker } from 'node:worker_threads';
import { Piscina } from 'piscina';
import { TurnoutError } from '../errors.js';
import type { ExpertBackend, ExpertFile, LaneStats, Residency } from './backend.js';
import type { CarrierData } from './carrier.js';
import { type Lane, type LaneResult, LanesBackend, type LaneWork } from './lanes-backend.js';
import { everywhere } from './placement.js';
import { type Answer, unwrap } from './remote-error.js';
import { guardState, protect } from './thread-guard.js';

export interface ThreadsOptions {
  /** Number of lanes, one thread each; `os.availableParallelism()` where left out. */
  readonly lanes?: number;
  /** `packed` where left out. */
  readonly residency?: Residency;
  /** H that every expert must have; that of the first expert where left out. */
  readonly hidden?: number;
}

/** Guards against a typing error: each lane is a thread with sessions of its own. */
const MAX_LANES = 1024;

/**
 * Opens experts in worker threads, every expert on every lane. Checks every file before it returns: throws what
 * `openInline` throws, and TURNOUT_OPTIONS_INVALID for a number of lanes that cannot be.
 *
 * A lane is `starting` until its experts are open, then `ready` or `busy`. When its thread ends, the calls on it fail
 * with TURNOUT_LANE_DIED and it starts anew; it is `dead` while it cannot, and the next call on it tries again. After
 * `close` lanes are `draining` until the calls under way have ended, then their threads are ended too. Threads that
 * are idle do not keep the process alive.
 */
export async function openThreads(
  files: readonly ExpertFile[],
  options: ThreadsOptions = {},
): Promise<ExpertBackend> {
  const { lanes: count = availableParallelism(), residency = 'packed', hidden } = options;
  if (!Number.isInteger(count) || count < 1 || count > MAX_LANES) {
    const message = `lanes: expected a whole number from 1 to ${MAX_LANES}, got ${count}`;
    throw new TurnoutError('TURNOUT_OPTIONS_INVALID', message, { lanes: count });
  }
  const data = { files, residency, ...(hidden === undefined ? {} : { hidden }) };
  const lanes = Array.from({ length: count }, (_, lane) => new ThreadLane(lane, data));
  const opened = await Promise.allSettled(lanes.map((lane) => lane.open()));
  const failed = opened.find((outcome) => outcome.status === 'rejected');
  if (failed) {
    await Promise.all(lanes.map((lane) => lane.close()));
    throw failed.reason;
  }
  const placement = everywhere(files.length, count);
  const info = {
    kind: 'threads',
    experts: files.length,
    hidden: lanes[0]!.hidden,
    residency,
    placement,
  } as const;
  return new LanesBackend(lanes, info);
}

type LaneExperts = Omit<CarrierData, 'lane' | 'guard'>;

const CARRIER = fileURLToPath(new URL('./carrier.js', import.meta.url));

/**
 * One worker thread that computes experts, in a pool of its own: piscina binds tasks to a thread only where there is no
 * other. A thread that dies takes its calls with it and is replaced at once, or with the next call where it had not
 * even opened its experts.
 */
class ThreadLane implements Lane {
  /** H, once opened. */
  hidden = 0;
  readonly #lane: number;
  readonly #experts: LaneExperts;
  readonly #done = { calls: 0, batches: 0, rows: 0 };
  /** Threads that have not exited: the one of the pool, and those that are ending. */
  readonly #threads = new Set<Worker>();
  #pool: Piscina | undefined;
  #state: 'starting' | 'ready' | 'dead' = 'starting';
  #active = 0;
  #starts = 0;
  #closing = false;

  constructor(lane: number, experts: LaneExperts) {
    this.#lane = lane;
    this.#experts = experts;
  }

  /** Starts the thread and opens the experts in it. */
  async open(): Promise<void> {
    this.#state = 'starting';
    try {
      this.hidden = await this.#send<number>('open', undefined, []);
      this.#state = 'ready';
    } catch (error) {
      this.#state = 'dead';
      throw error;
    }
  }

  async compute(work: LaneWork): Promise<LaneResult> {
    this.#active++;
    try {
      const result = await this.#send<LaneResult>('compute', work, [work.buffer]);
      this.#state = 'ready';
      this.#done.calls++;
      this.#done.batches += result.batches;
      this.#done.rows += result.rows;
      return result;
    } finally {
      this.#active--;
    }
  }

  async #send<T>(name: string, task: unknown, transferList: ArrayBuffer[]): Promise<T> {
    this.#pool ??= this.#start();
    let answered: Answer<T>;
    try {
      answered = await this.#pool.run(task, { name, transferList });
    } catch (cause) {
      const message = `lane ${this.#lane} (thread) died while it computed: ${(cause as Error).message}`;
      throw new TurnoutError('TURNOUT_LANE_DIED', message, { lane: this.#lane }, { cause });
    }
    return unwrap(answered);
  }

  #start(): Piscina {
    const guard = guardState();
    const workerData: CarrierData = { lane: this.#lane, ...this.#experts, guard };
    const pool = new Piscina({
      filename: CARRIER,
      workerData,
      minThreads: 1,
      maxThreads: 1,
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
    this.#starts++;
    return pool;
  }

  /** Drops the pool of a thread that ended, so that its waiting calls fail too, and starts another. */
  #lost(pool: Piscina): void {
    if (this.#closing || pool !== this.#pool) return;
    this.#pool = undefined;
    void pool.destroy();
    const wasReady = this.#state === 'ready';
    this.#state = 'dead';
    // Calls that come meanwhile wait behind it and get its error themselves.
    if (wasReady) this.open().catch(() => {});
  }

  stats(): LaneStats {
    const state = this.#state === 'ready' && this.#active > 0 ? 'busy' : this.#state;
    return { lane: this.#lane, device: 'cpu', state, ...this.#done, restarts: Math.max(0, this.#starts - 1) };
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
