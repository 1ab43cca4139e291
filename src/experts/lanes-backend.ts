import { TurnoutError } from '../errors.js';
import type {
  ExpertBackend,
  ExpertBatch,
  ExpertResults,
  LaneStats,
  Residency,
  RunOptions,
} from './backend.js';
import { checkBatches } from './batches.js';
import { CallGate } from './call-gate.js';
import { type StopFlag, withinLimits } from './limits.js';
import { type Piece, type Placement, pieceCost, spread } from './placement.js';

/** The rows of one lane in one layer call. The buffer is transferred to the lane and back. */
export interface LaneWork {
  readonly batches: readonly { readonly expert: number; readonly rows: number }[];
  /** x [sum of rows, H] float32, in the order of the batches. */
  readonly buffer: ArrayBuffer;
  /** Absent where nothing can stop the call. */
  readonly stop?: StopFlag;
}

export interface LaneResult {
  /** y [sum of rows, H] float32, in the order of the batches; unfinished where stopped. */
  readonly buffer: ArrayBuffer;
  /** Batches and rows computed, and the milliseconds that they took. */
  readonly batches: number;
  readonly rows: number;
  readonly computeMs: number;
}

/** A place that computes the work of one layer call at a time, in the order of arrival. */
export interface Lane {
  /** Throws what the experts throw, or TURNOUT_LANE_DIED. */
  compute(work: LaneWork): Promise<LaneResult>;
  stats(): LaneStats;
  close(): Promise<void>;
}

export interface LanesInfo {
  readonly kind: ExpertBackend['kind'];
  readonly experts: number;
  readonly hidden: number;
  readonly residency: Residency;
  readonly placement: Placement;
}

/** The part of a call that goes to one lane. */
interface Load {
  readonly lane: number;
  readonly pieces: readonly Piece[];
  readonly buffer: ArrayBuffer;
}

/** A backend over lanes: spreads each call over them, one message a lane, and puts the answers together. */
export class LanesBackend implements ExpertBackend {
  readonly kind: ExpertBackend['kind'];
  readonly experts: number;
  readonly hidden: number;
  readonly residency: Residency;
  readonly #lanes: readonly Lane[];
  readonly #placement: Placement;
  /** Cost of the work that each lane has not answered yet. */
  readonly #busy: number[];
  readonly #calls: CallGate;
  #closed: Promise<void> | undefined;
  #released = false;

  constructor(lanes: readonly Lane[], { kind, experts, hidden, residency, placement }: LanesInfo) {
    this.kind = kind;
    this.experts = experts;
    this.hidden = hidden;
    this.residency = residency;
    this.#lanes = lanes;
    this.#placement = placement;
    this.#busy = lanes.map(() => 0);
    this.#calls = new CallGate(`the ${kind} backend`);
  }

  async run(batches: readonly ExpertBatch[], options: RunOptions = {}): Promise<ExpertResults> {
    return withinLimits(options, async (stop) => {
      this.#calls.enter();
      try {
        checkBatches(batches, this);
        return await this.#runAll(batches, stop);
      } finally {
        this.#calls.leave();
      }
    });
  }

  async #runAll(batches: readonly ExpertBatch[], stop: StopFlag | undefined): Promise<ExpertResults> {
    const started = performance.now();
    const loads = gatherLoads(batches, spread(batches, this.#placement, this.#busy), this.hidden);
    const gathered = performance.now();
    const settled = await Promise.allSettled(loads.map((load) => this.#compute(load, batches, stop)));
    const results = settled.map((outcome) => {
      if (outcome.status === 'rejected') throw outcome.reason;
      return outcome.value;
    });
    const outputs = scatter(batches, loads, results, this.hidden);
    const gatherMs = gathered - started;
    const computeMs = results.reduce((most, result) => Math.max(most, result.computeMs), 0);
    const transportMs = Math.max(0, performance.now() - gathered - computeMs);
    return { outputs, timing: { gatherMs, transportMs, computeMs } };
  }

  async #compute(
    load: Load,
    batches: readonly ExpertBatch[],
    stop: StopFlag | undefined,
  ): Promise<LaneResult> {
    const { lane, pieces, buffer } = load;
    const work = pieces.map(({ batch, rows }) => ({ expert: batches[batch]!.expert, rows }));
    const cost = pieces.reduce((sum, { rows }) => sum + pieceCost(rows), 0);
    this.#busy[lane]! += cost;
    try {
      return await this.#lanes[lane]!.compute({ batches: work, buffer, ...(stop ? { stop } : {}) });
    } finally {
      this.#busy[lane]! -= cost;
    }
  }

  lanes(): readonly LaneStats[] {
    if (this.#released) throw new TurnoutError('TURNOUT_CLOSED', `${this.#calls.name} is closed`);
    const stats = this.#lanes.map((lane) => lane.stats());
    return this.#calls.closing ? stats.map((lane) => ({ ...lane, state: 'draining' })) : stats;
  }

  close(): Promise<void> {
    this.#closed ??= this.#calls.close().then(async () => {
      await Promise.all(this.#lanes.map((lane) => lane.close()));
      this.#released = true;
    });
    return this.#closed;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}

/** Gathers each batch once: straight into the buffer of its lane, or by way of its own where lanes share it. */
function gatherLoads(batches: readonly ExpertBatch[], spread: readonly Piece[][], hidden: number): Load[] {
  const shared = new Map<number, Float32Array>();
  return spread.flatMap((pieces, lane) => {
    if (pieces.length === 0) return [];
    const rows = pieces.reduce((sum, piece) => sum + piece.rows, 0);
    const x = new Float32Array(rows * hidden);
    let offset = 0;
    for (const piece of pieces) {
      const batch = batches[piece.batch]!;
      if (piece.rows === batch.rows) {
        batch.gather(x, offset);
      } else {
        const all = shared.get(piece.batch) ?? new Float32Array(batch.rows * hidden);
        if (!shared.has(piece.batch)) batch.gather(all, 0);
        shared.set(piece.batch, all);
        x.set(all.subarray(piece.start * hidden, (piece.start + piece.rows) * hidden), offset);
      }
      offset += piece.rows * hidden;
    }
    return [{ lane, pieces, buffer: x.buffer }];
  });
}

/** The outputs of the batches, in their order: views of what lanes answered, or put together where lanes shared one. */
function scatter(
  batches: readonly ExpertBatch[],
  loads: readonly Load[],
  results: readonly LaneResult[],
  hidden: number,
): Float32Array[] {
  const outputs: Float32Array[] = new Array(batches.length);
  for (const [i, { pieces }] of loads.entries()) {
    let offset = 0;
    for (const { batch, start, rows } of pieces) {
      const y = new Float32Array(results[i]!.buffer, offset, rows * hidden);
      offset += y.byteLength;
      const all = batches[batch]!.rows;
      if (rows === all) {
        outputs[batch] = y;
      } else {
        outputs[batch] ??= new Float32Array(all * hidden);
        outputs[batch].set(y, start * hidden);
      }
    }
  }
  return outputs;
}
