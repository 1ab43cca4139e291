import { TurnoutError } from '../errors.js';
import { copyRows } from '../tensor.js';
import type {
  BackendCall,
  ExpertBackend,
  ExpertBatch,
  ExpertFile,
  ExpertResults,
  LaneStats,
  Residency,
} from './backend.js';
import { checkBatches } from './batches.js';
import { CallGate } from './call-gate.js';
import type { Device } from './device.js';
import { discard } from './discard.js';
import type { LaneResult, LaneWork } from './lane.js';
import { isStopped, type StopFlag, withinLimits } from './limits.js';
import { computePieces, type PieceOptions } from './pieces.js';
import { openSession, type Session, type TensorSpec } from './session.js';

export interface InlineOptions {
  /** `packed` where left out. */
  readonly residency?: Residency;
  /** H that every expert must have; that of the first expert where left out. */
  readonly hidden?: number;
  /** Where sessions compute; the CPU where left out. */
  readonly device?: Device;
  /** See SessionOptions. */
  readonly arena?: boolean;
  /** Begin of the name of the file that ONNX Runtime leaves its profile of each expert in. */
  readonly profile?: (expert: number) => string;
}

/**
 * Opens experts in this thread, one session each. Checks every file before it returns: throws TURNOUT_EXPERTS_INVALID
 * for an empty list, TURNOUT_FILE_MISSING, TURNOUT_SESSION_FAILED or TURNOUT_EXPERT_INVALID.
 */
export async function openInline(
  files: readonly ExpertFile[],
  options: InlineOptions = {},
): Promise<InlineBackend> {
  const { residency = 'packed', device, profile, arena } = options;
  if (files.length === 0) {
    throw new TurnoutError('TURNOUT_EXPERTS_INVALID', 'expected at least one expert file, got none');
  }
  const sessions: Session[] = [];
  let { hidden } = options;
  try {
    for (const [expert, { path }] of files.entries()) {
      const session = await openSession(path, {
        residency,
        ...(device && { device }),
        ...(arena !== undefined && { arena }),
        ...(profile !== undefined && { profile: profile(expert) }),
      });
      sessions.push(session);
      hidden = checkExpert(session, hidden);
    }
  } catch (error) {
    await releaseAll(sessions);
    throw error;
  }
  return new InlineBackend(sessions, hidden!, residency);
}

/** Computes experts in this thread: the only backend that does; the others carry batches to one of these elsewhere. */
export class InlineBackend implements ExpertBackend {
  readonly kind = 'inline';
  readonly #sessions: readonly Session[];
  readonly #calls = new CallGate('the inline backend');
  readonly #done = { calls: 0, batches: 0, rows: 0, computeMs: 0 };
  /** For x of one piece, as many as calls were shared at the same time. Used again, so that they stay in the cache of the core. */
  readonly #rooms: Float32Array[] = [];
  #closed: Promise<void> | undefined;
  #released = false;

  constructor(
    sessions: readonly Session[],
    readonly hidden: number,
    readonly residency: Residency,
  ) {
    this.#sessions = sessions;
  }

  get experts(): number {
    return this.#sessions.length;
  }

  async run(batches: readonly ExpertBatch[], options: BackendCall = {}): Promise<ExpertResults> {
    return withinLimits(options, async (stop) => {
      this.#calls.enter();
      try {
        checkBatches(batches, this);
        return await this.#runAll(batches, stop, options.lend === true);
      } finally {
        this.#calls.leave();
      }
    });
  }

  async #runAll(
    batches: readonly ExpertBatch[],
    stop: StopFlag | undefined,
    lend: boolean,
  ): Promise<ExpertResults> {
    const started = performance.now();
    const inputs = batches.map((batch) => {
      const x = new Float32Array(batch.rows.length * this.hidden);
      copyRows(batch, x, 0);
      return x;
    });
    const gathered = performance.now();
    const outputs: Float32Array<ArrayBuffer>[] = [];
    for (const [i, { expert }] of batches.entries()) {
      if (isStopped(stop)) break;
      outputs.push(await this.compute(expert, inputs[i]!));
      discard(inputs[i]!);
    }
    const computeMs = performance.now() - gathered;
    if (!isStopped(stop)) this.#done.calls++;
    this.#done.computeMs += computeMs;
    const timing = { gatherMs: gathered - started, transportMs: 0, computeMs };
    return { outputs, timing, ...(lend && { recycle: () => outputs.forEach(discard) }) };
  }

  /** The part of this thread in a call that it shares with lanes; `place` is which of the experts here has a key. */
  async share(work: LaneWork, options: Omit<PieceOptions, 'room'>): Promise<LaneResult> {
    this.#calls.enter();
    let room = this.#rooms.pop() ?? new Float32Array(0);
    try {
      const done = await computePieces(this, work, {
        ...options,
        room: (values) => {
          if (room.length < values) room = new Float32Array(values);
          return room.subarray(0, values);
        },
      });
      this.#done.calls++;
      this.#done.computeMs += done.computeMs;
      return done;
    } finally {
      this.#rooms.push(room);
      this.#calls.leave();
    }
  }

  /** Rows x [n, H] of one expert -> y [n, H] in a fresh array. Throws TURNOUT_SESSION_FAILED or TURNOUT_EXPERT_INVALID. */
  async compute(expert: number, x: Float32Array): Promise<Float32Array<ArrayBuffer>> {
    const session = this.#sessions[expert]!;
    const rows = x.length / this.hidden;
    const { y } = await session.run({ x: { type: 'float32', dims: [rows, this.hidden], data: x } });
    if (y?.data.length !== x.length) {
      throw invalid(session.file, `output y [${rows}, ${this.hidden}]`, `[${y?.dims.join(', ')}]`);
    }
    this.#done.batches++;
    this.#done.rows += rows;
    return y.data as Float32Array<ArrayBuffer>;
  }

  lanes(): readonly LaneStats[] {
    if (this.#released) throw new TurnoutError('TURNOUT_CLOSED', 'the inline backend is closed');
    const state = this.#calls.closing ? 'draining' : this.#calls.active > 0 ? 'busy' : 'ready';
    const experts = this.#sessions.map((_, expert) => expert);
    const queue = this.#calls.active;
    return [{ lane: 0, device: 'cpu', provider: 'cpu', state, experts, queue, ...this.#done, restarts: 0 }];
  }

  close(): Promise<void> {
    this.#closed ??= this.#calls.close().then(() => {
      this.#released = true;
      return releaseAll(this.#sessions);
    });
    return this.#closed;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}

async function releaseAll(sessions: readonly Session[]): Promise<void> {
  await Promise.all(sessions.map((session) => session.release()));
}

/** H of an expert; throws TURNOUT_EXPERT_INVALID where it is not x [n, H] -> y [n, H], or not the H of those before it. */
function checkExpert({ file, inputMetadata, outputMetadata }: Session, hidden: number | undefined): number {
  for (const [side, name, specs] of [
    ['input', 'x', inputMetadata],
    ['output', 'y', outputMetadata],
  ] as const) {
    const [spec] = specs;
    const width = spec?.shape[1];
    const fits =
      specs.length === 1 &&
      spec!.name === name &&
      spec!.type === 'float32' &&
      spec!.shape.length === 2 &&
      typeof spec!.shape[0] === 'string' &&
      typeof width === 'number' &&
      width > 0 &&
      (hidden === undefined || width === hidden);
    if (!fits) {
      const expected = `one ${side}, ${name} float32 [n, ${hidden ?? 'H'}]`;
      throw invalid(file, expected, specs.map(specText).join(', ') || 'none');
    }
    hidden = width;
  }
  return hidden!;
}

function specText({ name, type, shape }: TensorSpec): string {
  return `${name} ${type} [${shape.join(', ')}]`;
}

function invalid(file: string, expected: string, got: string): TurnoutError {
  const message = `${file}: expected ${expected}, got ${got}`;
  return new TurnoutError('TURNOUT_EXPERT_INVALID', message, { file, expected, got });
}
