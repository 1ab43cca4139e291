import { availableParallelism } from 'node:os';
import { fileURLToPath } from 'node:url';
import { TurnoutError } from '../errors.js';
import type { ExpertBackend, ExpertFile, Residency } from './backend.js';
import type { CarrierData, OpenTask } from './carrier.js';
import type { Generation, Lane, LaneResult, LaneWork, SentWork } from './lane.js';
import { LanesBackend, type LanesInfo } from './lanes-backend.js';
import { Line, newBell } from './line.js';
import { type LanePlan, placementOf, placeOnDevices } from './placement.js';
import { CarrierPool } from './pool.js';
import { type Answer, unwrap } from './remote-error.js';

export interface ThreadsOptions {
  /** Number of lanes, one thread each; `os.availableParallelism()` where left out. */
  readonly lanes?: number;
  /** How many lanes hold each expert; all of them where left out. */
  readonly replicas?: number;
  /** `packed` where left out. */
  readonly residency?: Residency;
  /** H that every expert must have; that of the first expert where left out. */
  readonly hidden?: number;
}

/** Guards against a typing error: each lane is a thread with sessions of its own. */
const MAX_LANES = 1024;

/**
 * Opens experts in worker threads, on every lane or on as many as `replicas` says, dealt to the lanes in turn; a lane
 * for which no expert is left is not started. Checks every file before it returns: throws what `openInline` throws, and
 * TURNOUT_OPTIONS_INVALID for a number of lanes or replicas that cannot be.
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
  const { generation, info } = await openThreadLanes(files, options);
  return new LanesBackend(generation, info);
}

/** What calls over such lanes see. */
export interface ThreadGeneration extends Generation {
  readonly lanes: readonly ThreadLane[];
}

/** The lanes of such a backend. */
export async function openThreadLanes(
  files: readonly ExpertFile[],
  options: ThreadsOptions = {},
): Promise<{ readonly generation: ThreadGeneration; readonly info: LanesInfo }> {
  const { residency = 'packed', hidden } = options;
  const plan = planOf(files, options);
  const common = { residency, ...(hidden === undefined ? {} : { hidden }) };
  const lanes = plan.map(({ experts }, lane) => {
    const own = { experts, files: experts.map((e) => files[e]!), lingers: lingers(lane, plan.length) };
    return new ThreadLane(lane, { ...common, ...own });
  });
  const opened = await Promise.allSettled(lanes.map((lane) => lane.open()));
  const failed = opened.find((outcome) => outcome.status === 'rejected');
  const error = failed ? failed.reason : otherWidth(lanes, plan, files);
  if (error) {
    await Promise.all(lanes.map((lane) => lane.close()));
    throw error;
  }
  const experts = files.length;
  const keys = files.map((_, expert) => expert);
  const info = { kind: 'threads', experts, hidden: lanes[0]!.hidden, residency } as const;
  return { generation: { lanes, placement: placementOf(plan, experts), keys }, info };
}

/** Whether a lane stays awake between calls: where there is a core for each, and one is left to the calling thread. */
function lingers(lane: number, lanes: number): boolean {
  const cores = availableParallelism();
  return lanes <= cores && lane < cores - 1;
}

/** Throws TURNOUT_EXPERTS_INVALID and TURNOUT_OPTIONS_INVALID. */
function planOf(files: readonly ExpertFile[], options: ThreadsOptions): readonly LanePlan[] {
  const { lanes = availableParallelism(), replicas = lanes } = options;
  checkCount('lanes', lanes, MAX_LANES);
  checkCount('replicas', replicas, lanes);
  if (files.length === 0) {
    throw new TurnoutError('TURNOUT_EXPERTS_INVALID', 'expected at least one expert file, got none');
  }
  const devices = Array.from({ length: lanes }, () => 'cpu');
  return placeOnDevices(files.length, { devices, replicas, oneProcessPer: 'device' });
}

function checkCount(option: 'lanes' | 'replicas', count: number, most: number): void {
  if (Number.isInteger(count) && count >= 1 && count <= most) return;
  const message = `${option}: expected a whole number from 1 to ${most}, got ${count}`;
  throw new TurnoutError('TURNOUT_OPTIONS_INVALID', message, { [option]: count });
}

/** What is wrong where lanes that hold no expert in common hold experts of different H. */
function otherWidth(
  lanes: readonly ThreadLane[],
  plan: readonly LanePlan[],
  files: readonly ExpertFile[],
): TurnoutError | undefined {
  const expected = lanes[0]!.hidden;
  const other = lanes.findIndex(({ hidden }) => hidden !== expected);
  if (other < 0) return undefined;
  const file = files[plan[other]!.experts[0]!]!.path;
  const got = lanes[other]!.hidden;
  const message = `${file}: expected H = ${expected} as the other experts have, got ${got}`;
  return new TurnoutError('TURNOUT_EXPERT_INVALID', message, { file, expected, got });
}

type LaneExperts = Omit<CarrierData, 'lane' | 'guard'>;

const CARRIER = fileURLToPath(new URL('./carrier.js', import.meta.url));

/**
 * One worker thread that computes experts. A thread that dies takes its calls with it and is replaced at once, or with
 * the next call where it had not even opened its experts.
 */
class ThreadLane implements Lane {
  /** H, once opened. */
  hidden = 0;
  /** Whether its thread has a core, and stays awake between calls. */
  readonly lingers: boolean;
  readonly #lane: number;
  readonly #pool: CarrierPool;
  readonly #done = { calls: 0, batches: 0, rows: 0, computeMs: 0 };
  #state: 'starting' | 'ready' | 'dead' = 'starting';
  #line: Line<SentWork, Answer<LaneResult>> | undefined;
  #opening: Promise<void> | undefined;
  #active = 0;

  constructor(lane: number, experts: LaneExperts) {
    this.lingers = experts.lingers;
    this.#lane = lane;
    this.#pool = new CarrierPool({
      filename: CARRIER,
      data: (guard): CarrierData => ({ lane, ...experts, guard }),
      onLost: () => this.#lost(),
    });
  }

  /** Starts the thread and opens the experts in it. */
  open(): Promise<void> {
    this.#opening ??= this.#open().finally(() => {
      this.#opening = undefined;
    });
    return this.#opening;
  }

  async #open(): Promise<void> {
    this.#state = 'starting';
    const { port1, port2 } = new MessageChannel();
    const bell = newBell();
    const line = new Line<SentWork, Answer<LaneResult>>(port1, bell, () => this.#died());
    try {
      const task: OpenTask = { port: port2, bell };
      const opened = await this.#pool.run<Answer<number>>('open', task, [port2]).catch((cause: Error) => {
        throw this.#died(cause);
      });
      this.hidden = unwrap(opened);
      this.#line = line;
      this.#state = 'ready';
    } catch (error) {
      line.break(error as Error);
      this.#state = 'dead';
      throw error;
    }
  }

  async compute({ call, ...work }: LaneWork): Promise<LaneResult> {
    this.#active++;
    try {
      // One that is ready is told at once, before the rows are gathered.
      if (!this.#line) await this.open();
      if (!this.#line) throw this.#died();
      const result = unwrap(await this.#line.ask({ ...work, call: call.handle }));
      this.#done.calls++;
      for (const key of ['batches', 'rows', 'computeMs'] as const) this.#done[key] += result[key];
      return result;
    } finally {
      this.#active--;
    }
  }

  /** A way to take its answers to what it was asked until now without an event loop; see `Line.listen`. */
  listen(): (deadline: number) => void {
    return this.#line?.listen() ?? (() => {});
  }

  #lost(): void {
    const line = this.#line;
    this.#line = undefined;
    this.#state = 'dead';
    if (!line) return;
    line.break(this.#died());
    // Calls that come meanwhile wait behind it and get its error themselves.
    this.open().catch(() => {});
  }

  #died(cause?: Error): TurnoutError {
    const message = `lane ${this.#lane} (thread) died while it computed${cause ? `: ${cause.message}` : ''}`;
    return new TurnoutError('TURNOUT_LANE_DIED', message, { lane: this.#lane }, { cause });
  }

  /** While it is being replaced, calls wait behind its start. */
  takes(): 'now' {
    return 'now';
  }

  stats(): ReturnType<Lane['stats']> {
    const state = this.#state === 'ready' && this.#active > 0 ? 'busy' : this.#state;
    const place = { lane: this.#lane, device: 'cpu', provider: 'cpu' };
    return {
      ...place,
      state,
      queue: this.#active,
      ...this.#done,
      restarts: Math.max(0, this.#pool.starts - 1),
    };
  }

  async close(): Promise<void> {
    await this.#pool.close();
    this.#line?.break(this.#died());
  }
}
