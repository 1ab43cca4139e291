import { availableParallelism } from 'node:os';
import { fileURLToPath } from 'node:url';
import { TurnoutError } from '../errors.js';
import type { Residency } from './backend.js';
import { parseDevice } from './device.js';
import type { TimeLimits } from './expert-process.js';
import type { LanesInfo } from './lanes-backend.js';
import { CarrierPool } from './pool.js';
import type { Died, ProcessCarrierData } from './process-carrier.js';
import { ProcessLane } from './process-lane.js';
import type { HeldExpert } from './process-messages.js';
import { endsWithOwner, type SpawnOptions } from './spawn.js';
import { atMost } from './supervision.js';

export interface FleetOptions {
  /** `packed` where left out. */
  readonly residency?: Residency;
  /** H that every expert must have; that of the first expert where left out. */
  readonly hidden?: number;
  /** What becomes of a call where an expert cannot be had on any lane; `fail` where left out. */
  readonly onLostExpert?: 'fail' | 'drop';
  readonly start?: StartOptions;
  readonly limits?: ProcessLimits;
  /** Folder where every process leaves ONNX Runtime's profile of every expert. */
  readonly profile?: string;
  /** The program of the processes; for tests. */
  readonly program?: string;
}

export interface StartOptions {
  /** Processes that start at the same time, at most; twice the number of cores where left out. */
  readonly concurrency?: number;
  /** Called with each process that is ready, and with 0 at the begin. */
  readonly onProgress?: (ready: number, total: number) => void;
}

export interface ProcessLimits {
  /** Milliseconds that a process may take to open its experts; 120,000 where left out. */
  readonly startMs?: number;
  /** Milliseconds that a process may compute its part of one call before it is replaced; 60,000 where left out. */
  readonly answerMs?: number;
  /**
   * Bytes of data that each process may have (RLIMIT_DATA), without limit where left out. Linux only. Node itself needs
   * some 100 MB of them, from version 24 on 512 MB more, which it only reserves.
   */
  readonly memoryBytes?: number;
}

/** A lane that is wanted: where, and with which experts. */
export interface WantedLane {
  readonly device: string;
  readonly files: readonly HeldExpert[];
}

/** A lane for what is wanted: one that runs already, or (`fresh`) one that has yet to start. */
export interface MatchedLane {
  readonly lane: ProcessLane;
  readonly files: readonly HeldExpert[];
  readonly before: readonly HeldExpert[];
  readonly fresh: boolean;
}

/** Processes beyond this are a typing error: thousands of experts belong into one process per device. */
const MAX_PROCESSES = 1024;
const START_MS = 120_000;
const ANSWER_MS = 60_000;
/** Tasks of a carrier thread at the same time: the calls of all its lanes. */
const MANY = 2 ** 20;
const CARRIER = fileURLToPath(new URL('./process-carrier.js', import.meta.url));

/** The carrier threads of one backend and the lanes that they own. */
export class Fleet {
  readonly #options: FleetOptions;
  readonly #concurrency: number;
  readonly #carriers: readonly CarrierPool[];
  readonly #lanes = new Map<number, ProcessLane>();
  #hidden: number | undefined;
  #next = 0;

  /** Throws TURNOUT_OPTIONS_INVALID. */
  constructor(options: FleetOptions) {
    const { start, limits } = options;
    const cores = availableParallelism();
    oneOf('residency', options.residency, ['packed', 'mapped']);
    oneOf('onLostExpert', options.onLostExpert, ['fail', 'drop']);
    this.#options = options;
    this.#hidden = options.hidden;
    this.#concurrency = whole('start.concurrency', start?.concurrency ?? 2 * cores);
    if (limits?.memoryBytes !== undefined) whole('limits.memoryBytes', limits.memoryBytes);
    const times = {
      startMs: whole('limits.startMs', limits?.startMs ?? START_MS),
      answerMs: whole('limits.answerMs', limits?.answerMs ?? ANSWER_MS),
    };
    // Each starts its thread with its first lane.
    this.#carriers = Array.from({ length: cores }, (_, i) => this.#carrier(i, times));
    warnOnce();
  }

  #carrier(index: number, limits: TimeLimits): CarrierPool {
    return new CarrierPool({
      filename: CARRIER,
      concurrent: MANY,
      data: (guard): ProcessCarrierData => ({ guard, limits }),
      onMessage: (message) => {
        const died = message as Died;
        this.#lanes.get(died.lane)?.died(died);
      },
      onLost: () => {
        for (const [id, lane] of this.#lanes) {
          if (id % this.#carriers.length === index) lane.carrierLost();
        }
      },
    });
  }

  info(experts: number): LanesInfo {
    const { residency = 'packed', onLostExpert = 'fail' } = this.#options;
    return { kind: 'processes', experts, hidden: this.#hidden!, residency, onLostExpert };
  }

  /** Starts new lanes, some at a time. Throws what is wrong with the first that cannot. */
  async start(wanted: readonly WantedLane[]): Promise<ProcessLane[]> {
    const lanes = this.match(wanted, []);
    await this.prepare(lanes);
    return lanes.map(({ lane }) => lane);
  }

  /** For each lane that is wanted the running one of its device that holds most of its experts, else a new one. */
  match(wanted: readonly WantedLane[], running: readonly ProcessLane[]): MatchedLane[] {
    if (wanted.length > MAX_PROCESSES) {
      const message = `expected at most ${MAX_PROCESSES} processes, got ${wanted.length}; use oneProcessPer: 'device'`;
      throw new TurnoutError('TURNOUT_OPTIONS_INVALID', message, { processes: wanted.length });
    }
    const devices = wanted.map(({ device }) => parseDevice(device));
    const free = new Set(running);
    return wanted.map(({ device, files }, i) => {
      const keys = new Set(files.map(({ key }) => key));
      const common = (lane: ProcessLane) => lane.files.filter(({ key }) => keys.has(key)).length;
      const [same] = [...free]
        .filter((lane) => lane.device.name === device)
        .sort((a, b) => common(b) - common(a));
      if (same) free.delete(same);
      const lane = same ?? this.#lane(devices[i]!);
      return { lane, files, before: lane.files, fresh: same === undefined };
    });
  }

  #lane(device: SpawnOptions['device']): ProcessLane {
    const { residency = 'packed', profile, program, limits } = this.#options;
    const id = this.#next++;
    const lane = new ProcessLane(id, this.#carriers[id % this.#carriers.length]!, {
      device,
      residency,
      ...(this.#hidden !== undefined && { hidden: this.#hidden }),
      ...(profile !== undefined && { profile }),
      ...(program !== undefined && { program }),
      ...(limits?.memoryBytes !== undefined && { memoryBytes: limits.memoryBytes }),
    });
    this.#lanes.set(id, lane);
    return lane;
  }

  /** Has every lane hold what is wanted beside what it holds; where one cannot, all hold what they held, and it throws. */
  async prepare(lanes: readonly MatchedLane[]): Promise<void> {
    const { onProgress } = this.#options.start ?? {};
    let ready = 0;
    onProgress?.(0, lanes.length);
    const tasks = lanes.map(({ lane, files, before, fresh }) => async () => {
      const keys = new Set(files.map(({ key }) => key));
      if (fresh) await lane.open(files);
      else await lane.hold([...before.filter(({ key }) => !keys.has(key)), ...files], files);
      onProgress?.(++ready, lanes.length);
    });
    try {
      await atMost(this.#concurrency, tasks);
      for (const { lane, files } of lanes) this.#checkHidden(lane, files[0]!);
    } catch (error) {
      await Promise.all(
        lanes.map(({ lane, before, fresh }) => (fresh ? this.#retire(lane) : lane.release(before))),
      );
      throw error;
    }
  }

  #checkHidden({ hidden }: ProcessLane, { path }: HeldExpert): void {
    this.#hidden ??= hidden;
    if (hidden === this.#hidden) return;
    const message = `${path}: expected H = ${this.#hidden} as the other experts have, got ${hidden}`;
    throw new TurnoutError('TURNOUT_EXPERT_INVALID', message, {
      file: path,
      expected: this.#hidden,
      got: hidden,
    });
  }

  /** Lets go of what calls do not need any more: earlier versions, and lanes that are not wanted. */
  async settle(lanes: readonly MatchedLane[], before: readonly ProcessLane[]): Promise<void> {
    const kept = new Set(lanes.map(({ lane }) => lane));
    await Promise.all([
      ...lanes.map(({ lane, files, fresh }) => (fresh ? undefined : lane.release(files))),
      ...before.filter((lane) => !kept.has(lane)).map((lane) => this.#retire(lane)),
    ]);
  }

  async #retire(lane: ProcessLane): Promise<void> {
    await lane.close();
    for (const [id, other] of this.#lanes) if (other === lane) this.#lanes.delete(id);
  }

  async close(): Promise<void> {
    await Promise.all([...this.#lanes.values()].map((lane) => lane.close()));
    await Promise.all(this.#carriers.map((carrier) => carrier.close()));
  }
}

const NO_SETPRIV =
  'setpriv (util-linux) is not there: an expert process that is stopped while its owner is killed lives on';

let warned = false;

function warnOnce(): void {
  if (warned || process.platform !== 'linux' || endsWithOwner()) return;
  warned = true;
  process.emitWarning(NO_SETPRIV, 'TurnoutWarning');
}

function whole(name: string, value: number): number {
  if (Number.isInteger(value) && value >= 1) return value;
  throw new TurnoutError('TURNOUT_OPTIONS_INVALID', `${name}: expected a whole number from 1, got ${value}`);
}

function oneOf(name: string, value: string | undefined, known: readonly string[]): void {
  if (value === undefined || known.includes(value)) return;
  throw new TurnoutError('TURNOUT_OPTIONS_INVALID', `${name}: expected ${known.join(' or ')}, got ${value}`);
}
