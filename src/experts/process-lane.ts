import { channel } from 'node:diagnostics_channel';
import { TurnoutError } from '../errors.js';
import type { LaneStats } from './backend.js';
import { deferred } from './deferred.js';
import type { Device } from './device.js';
import type { Lane, LaneLoss, LaneResult, LaneWork } from './lane.js';
import { isStopped, onStopped } from './limits.js';
import type { CarrierPool } from './pool.js';
import type { Computed, ComputeTask, Died, Started } from './process-carrier.js';
import type { Held } from './process-link.js';
import type { HeldExpert } from './process-messages.js';
import { type Answer, unwrap } from './remote-error.js';
import type { SpawnOptions } from './spawn.js';
import { Health } from './supervision.js';

/** The message on the diagnostics channel `turnout:lane`: a lane went into another state. */
export interface LaneEvent {
  readonly lane: number;
  readonly device: string;
  readonly state: LaneStats['state'];
  readonly pid?: number;
  /** Of `dead`: why. */
  readonly reason?: string;
}

type LaneState = Exclude<LaneStats['state'], 'busy'>;

const laneChannel = channel('turnout:lane');
/** A process that is killed while it starts for an update may be so once or twice. */
const START_TRIES = 3;
/** What a start throws whose files are not there any more. */
const GONE_CODES: readonly string[] = ['TURNOUT_EXPERT_CHANGED', 'TURNOUT_FILE_MISSING'];
const NO_PROCESS = { memory: { rss: 0, private: null } };

/**
 * A lane that is a process, as the main thread sees it: starts it through the carrier that owns it, and starts it again
 * when it has died. docs/lifecycle.md draws its states.
 */
export class ProcessLane implements Lane {
  /** H, once opened. */
  hidden = 0;
  readonly device: Device;
  readonly #lane: number;
  readonly #carrier: CarrierPool;
  readonly #options: SpawnOptions;
  readonly #health = new Health();
  readonly #done = { calls: 0, batches: 0, rows: 0, computeMs: 0 };
  /** What the process holds, or will once it has started. */
  #files: readonly HeldExpert[] = [];
  #keys: ReadonlySet<number> = new Set();
  #state: LaneState = 'starting';
  #starts = 0;
  #closed = false;
  #active = 0;
  #process: { readonly pid?: number; readonly memory: Held['memory'] } = NO_PROCESS;
  /** Why the process of the start under way died, where it told before the start did. */
  #early: string | undefined;
  #lastDeath: string | undefined;
  #timer: NodeJS.Timeout | undefined;
  /** Settles with the next change of the state. */
  #changed = deferred();

  constructor(lane: number, carrier: CarrierPool, options: SpawnOptions) {
    this.#lane = lane;
    this.#carrier = carrier;
    this.#options = options;
    this.device = options.device;
  }

  #assign(files: readonly HeldExpert[]): void {
    this.#files = files;
    this.#keys = new Set(files.map(({ key }) => key));
  }

  get files(): readonly HeldExpert[] {
    return this.#files;
  }

  takes(key: number): 'now' | 'soon' | 'refuses' {
    if (this.#refuses() || !this.#keys.has(key)) return 'refuses';
    return this.#state === 'ready' ? 'now' : 'soon';
  }

  #refuses(): boolean {
    return this.#state === 'draining' || (this.#state === 'dead' && this.#health.circuit === 'open');
  }

  /** The first start: throws what is wrong instead of trying again. */
  async open(files: readonly HeldExpert[]): Promise<void> {
    this.#assign(files);
    await this.#start().catch((error: TurnoutError) => {
      throw error.code === 'TURNOUT_LANE_DIED' ? this.#error(error.message, error) : error;
    });
  }

  async #start(): Promise<void> {
    const start = ++this.#starts;
    this.#early = undefined;
    this.#become('starting');
    const files = this.#files;
    const task = { lane: this.#lane, start, options: this.#options, files };
    const { hidden, memory, pid } = await this.#ask<Started>('start', task);
    // A close that came meanwhile ends the process; one that died meanwhile has said so.
    const gone = this.#closed ? 'was closed' : this.#early;
    if (gone !== undefined) throw new TurnoutError('TURNOUT_LANE_DIED', gone);
    this.hidden = hidden;
    this.#process = { pid, memory };
    this.#health.born();
    this.#become('ready');
    // It was released from some of them while it started.
    if (files !== this.#files) void this.release(this.#files);
  }

  async #ask<T>(task: string, input: unknown): Promise<T> {
    const answered = await this.#carrier.run<Answer<T>>(task, input).catch((cause) => {
      throw new TurnoutError('TURNOUT_LANE_DIED', `its carrier died: ${cause.message}`, {}, { cause });
    });
    return unwrap(answered);
  }

  async compute(work: LaneWork): Promise<LaneResult | LaneLoss> {
    this.#active++;
    this.#timer?.ref();
    try {
      // One that is ready is sent its work at once, before the rows of the next lane are gathered.
      if (this.#state !== 'ready') await this.#untilSettled(work);
      if (isStopped(work.stop)) return { batches: 0, rows: 0, computeMs: 0 };
      // An update may have left it without earlier versions.
      const own = work.pieces.slice(0, work.own);
      if (!own.every((i) => this.takes(work.call.piece(i).key) === 'now')) return this.#loss();
      if (this.#active === 1) this.#publish('busy');
      return await this.#send(work);
    } finally {
      this.#active--;
      if (this.#active === 0 && this.#state === 'ready') this.#publish('ready');
    }
  }

  /** Waits while it starts or is about to; not where it refuses, nor where nobody waits any more. */
  async #untilSettled({ stop }: LaneWork): Promise<void> {
    const stopped = deferred();
    const unwatch = stop && onStopped(stop, stopped.resolve);
    while (this.#state !== 'ready' && !this.#refuses() && !isStopped(stop)) {
      await Promise.race([this.#changed.promise, stopped.promise]);
    }
    unwatch?.();
  }

  async #send({ call, ...work }: LaneWork): Promise<LaneResult | LaneLoss> {
    const name = { lane: this.#lane, start: this.#starts };
    const task: ComputeTask = { ...name, ...work, call: call.handle };
    const answered = await this.#carrier.run<Answer<Computed>>('compute', task).catch((cause) => {
      throw this.#error(`its carrier died: ${cause.message}`, cause);
    });
    const computed = unwrap(answered);
    if ('died' in computed) {
      this.died({ ...name, reason: computed.died });
      return this.#loss();
    }
    const { memory, ...result } = computed;
    this.#health.answered();
    if (memory) this.#process = { ...this.#process, memory };
    this.#done.calls++;
    for (const key of ['batches', 'rows', 'computeMs'] as const) this.#done[key] += result[key];
    return result;
  }

  /**
   * Has it hold these experts from now on, also after a restart. One that has died is started for it, and where the
   * files of earlier versions are not there any more, with those of `fresh` alone. Throws why it cannot; it holds what
   * it held then.
   */
  async hold(files: readonly HeldExpert[], fresh: readonly HeldExpert[]): Promise<void> {
    while (this.#state === 'starting') await this.#changed.promise;
    if (this.#closed) throw this.#error('was closed');
    if (this.#state === 'dead') return this.#startWith([files, fresh]);
    const start = this.#starts;
    try {
      const { memory } = await this.#ask<Held>('hold', { lane: this.#lane, start, files });
      this.#process = { ...this.#process, memory };
      this.#assign(files);
    } catch (error) {
      const { code, message } = error as TurnoutError;
      if (code !== 'TURNOUT_LANE_DIED') throw error;
      this.died({ start, reason: message });
      await this.hold(files, fresh);
    }
  }

  /** Starts it with the first of these sets whose files are there. */
  async #startWith(sets: readonly (readonly HeldExpert[])[], tries = START_TRIES): Promise<void> {
    const [files, ...others] = sets;
    const before = this.#files;
    clearTimeout(this.#timer);
    this.#assign(files!);
    try {
      await this.#start();
    } catch (error) {
      this.#assign(before);
      const { code, message } = error as TurnoutError;
      if (GONE_CODES.includes(code) && others.length > 0) return this.#startWith(others);
      const again = code === 'TURNOUT_LANE_DIED' && tries > 1 && !this.#closed;
      if (again) return this.#startWith(sets, tries - 1);
      this.#startAgain(message);
      throw error;
    }
  }

  /** Lets go of all experts but these, also after a restart. */
  async release(files: readonly HeldExpert[]): Promise<void> {
    const held = this.#keys;
    this.#assign(files);
    if (this.#state !== 'ready') return;
    // An update that failed may have left it without some of these.
    this.#keys = new Set(files.flatMap(({ key }) => (held.has(key) ? [key] : [])));
    try {
      await this.#ask<Held>('hold', { lane: this.#lane, start: this.#starts, files });
      this.#assign(files);
    } catch (error) {
      // One that died meanwhile holds these alone once it is back. One that cannot open them must not go on without.
      if ((error as TurnoutError).code === 'TURNOUT_LANE_DIED') return;
      await this.#carrier.run('stop', this.#lane).catch(() => {});
    }
  }

  /** The process is gone: the next one follows, at once or after a while. */
  died({ start, reason }: Omit<Died, 'lane'>): void {
    if (start !== this.#starts) return;
    // The start that is under way says so when it ends.
    if (this.#state === 'starting') this.#early = reason;
    else if (this.#state === 'ready') this.#startAgain(reason);
  }

  /** The thread that owned the process is gone, and the process with it. */
  carrierLost(): void {
    this.died({ start: this.#starts, reason: 'died with its carrier thread' });
  }

  #startAgain(reason: string): void {
    this.#lastDeath = reason;
    this.#process = NO_PROCESS;
    this.#assign(this.#files);
    const wait = this.#health.died();
    this.#become('dead', reason);
    this.#timer = setTimeout(() => {
      this.#start().catch((error: Error) => {
        if (!this.#closed) this.#startAgain(error.message);
      });
    }, wait);
    if (this.#active === 0) this.#timer.unref();
  }

  /** Ends the process after its work, and does not start it again. */
  async close(): Promise<void> {
    clearTimeout(this.#timer);
    this.#closed = true;
    this.#become('draining');
    await this.#carrier.run('stop', this.#lane).catch(() => {});
  }

  stats(): ReturnType<Lane['stats']> {
    const { pid, memory } = this.#process;
    const { name, provider } = this.device;
    return {
      lane: this.#lane,
      device: name,
      provider,
      state: this.#state === 'ready' && this.#active > 0 ? 'busy' : this.#state,
      queue: this.#active,
      ...this.#done,
      restarts: Math.max(0, this.#starts - 1),
      process: {
        ...(pid !== undefined && { pid }),
        rssBytes: memory.rss,
        ...(memory.private !== null && { privateBytes: memory.private }),
        circuit: this.#health.circuit,
        ...(this.#lastDeath !== undefined && { lastDeath: this.#lastDeath }),
      },
    };
  }

  #loss(): LaneLoss {
    return { died: this.#error(this.#lastDeath ?? 'it is closing') };
  }

  #error(reason: string, cause?: unknown): TurnoutError {
    const message = `lane ${this.#lane} (process on ${this.device.name}) ${reason}`;
    return new TurnoutError(
      'TURNOUT_LANE_DIED',
      message,
      { lane: this.#lane, device: this.device.name },
      { cause },
    );
  }

  #become(state: LaneState, reason?: string): void {
    this.#state = state;
    this.#publish(state, reason);
    this.#changed.resolve();
    this.#changed = deferred();
  }

  #publish(state: LaneStats['state'], reason?: string): void {
    if (!laneChannel.hasSubscribers) return;
    const { pid } = this.#process;
    laneChannel.publish({
      lane: this.#lane,
      device: this.device.name,
      state,
      ...(pid !== undefined && { pid }),
      ...(reason !== undefined && { reason }),
    } satisfies LaneEvent);
  }
}
