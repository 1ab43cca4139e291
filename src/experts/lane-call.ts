import { TurnoutError } from '../errors.js';
import type { Matrix } from '../tensor.js';
import type { ExpertBatch } from './backend.js';
import type { Generation, Lane, LaneLoss, LaneResult } from './lane.js';
import { isStopped, type StopFlag } from './limits.js';
import type { Paces, Share } from './paces.js';
import { type Piece, type Placement, spread, workCost } from './placement.js';
import { copyValues, SharedCall } from './shared-call.js';

/** Lanes that may die under one and the same rows; then they are probably the reason. */
const MAX_TRIES = 8;

/** What a lane throws that cannot give an expert; `drops` does without it. */
const LOST_CODES: readonly string[] = ['TURNOUT_LANE_DIED', 'TURNOUT_EXPERT_LOST'];

export interface LaneCallParts {
  readonly batches: readonly ExpertBatch[];
  readonly generation: Generation;
  /** H */
  readonly hidden: number;
  /** Cost of the work that each lane has not answered yet, of all calls. */
  readonly busy: WeakMap<Lane, number>;
  readonly paces: Paces;
  /** See `LaneLoads`. */
  readonly callRows: number | undefined;
  readonly stop: StopFlag | undefined;
  /** Whether the call goes on without experts that cannot be had. */
  readonly drops: boolean;
  /** With `drops`: resolves when the call has waited long enough for experts that do not answer. */
  readonly late: Promise<undefined> | undefined;
}

/** One call of a backend over lanes: shares its pieces out, and sees that each of them is computed or given up. */
export class LaneCall {
  readonly #parts: LaneCallParts;
  readonly #shared: SharedCall;
  /** By batch, and by row within a batch. */
  readonly #pieces: readonly HomePiece[];
  /** [batches + 1] where each batch begins among the rows, and among the pieces. */
  readonly #rows: readonly number[];
  readonly #begins: readonly number[];
  /** What lanes computed, of tasks that came to their end. */
  readonly #shares: Share[] = [];
  #tasks = 0;
  #open = 0;

  /** `take` gives memory of at least that many bytes. */
  constructor(parts: LaneCallParts, take: (bytes: number) => SharedArrayBuffer) {
    const { batches, generation, hidden } = parts;
    this.#parts = parts;
    this.#pieces = piecesOf(parts);
    this.#rows = sumsOf(batches.map(({ rows }) => rows.length));
    const counts = batches.map(() => 0);
    for (const { batch } of this.#pieces) counts[batch]!++;
    this.#begins = sumsOf(counts);
    const pieces = this.#pieces.map(({ batch, start, rows }) => ({
      key: generation.keys[batches[batch]!.expert]!,
      first: this.#rows[batch]! + start,
      rows,
    }));
    const sources = sourcesOf(batches);
    const sizes = {
      pieces: pieces.length,
      rows: this.#rows.at(-1)!,
      sources: [...sources.keys()].reduce((sum, x) => sum + x.rows, 0),
      hidden,
      scaled: batches.some(({ scales }) => scales !== undefined),
    };
    this.#shared = SharedCall.layOut({ memory: take(SharedCall.bytes(sizes)), ...sizes }, pieces);
    this.#handOver(sources);
  }

  /** Writes x, and which of its rows each row of the call is. */
  #handOver(sources: ReadonlyMap<Matrix, number>): void {
    const { x: place, indexes, scales: factors } = this.#shared;
    for (const [x, first] of sources) copyValues(x.data, place.data.subarray(first * x.cols));
    for (const [i, { x, rows, scales }] of this.#parts.batches.entries()) {
      const [from, first] = [this.#rows[i]!, sources.get(x)!];
      if (first === 0) indexes.set(rows, from);
      else for (let r = 0; r < rows.length; r++) indexes[from + r] = first + rows[r]!;
      if (scales) factors.set(scales, from);
      else factors.fill(1, from, from + rows.length);
    }
  }

  /** Whether no lane touches the memory any more. */
  get over(): boolean {
    return this.#open === 0;
  }

  get memory(): SharedArrayBuffer {
    return this.#shared.handle.memory;
  }

  /** Milliseconds that the busiest lane has computed. */
  get computeMs(): number {
    return this.#shares.reduce((most, { ms }) => Math.max(most, ms), 0);
  }

  /** Sends all lanes their pieces; resolves when all are computed or given up. All settle before it throws. */
  async run(): Promise<void> {
    const all = this.#pieces.map((_, i) => i);
    await this.#send(all, 1);
    const { paces, stop } = this.#parts;
    // Of calls in which every lane came to its end.
    if (!isStopped(stop) && this.#shares.length === this.#tasks) paces.learn(this.#shares);
  }

  /** y of a batch [rows, H]; undefined where a piece of it was given up. */
  output(batch: number): Float32Array | undefined {
    for (let i = this.#begins[batch]!; i < this.#begins[batch + 1]!; i++)
      if (!this.#shared.isWhole(i)) return undefined;
    return this.#shared.y({ first: this.#rows[batch]!, rows: this.#parts.batches[batch]!.rows.length });
  }

  /** Each lane gets those of `pieces` that are meant for it, and may take others that it holds once it has done them. */
  async #send(pieces: readonly number[], tries: number): Promise<void> {
    const lanes = new Set(pieces.map((i) => this.#pieces[i]!.lane));
    const tasks = [...lanes].map((lane) => {
      const own = pieces.filter((i) => this.#pieces[i]!.lane === lane);
      return this.#orLost(this.#runTask(lane, own, tries));
    });
    await allOf(tasks);
  }

  async #runTask(index: number, own: readonly number[], tries: number): Promise<void> {
    const { generation, busy, callRows, stop } = this.#parts;
    const lane = generation.lanes[index]!;
    const task = ++this.#tasks;
    const work = { call: this.#shared, task, pieces: [...own, ...this.#others(index)], own: own.length };
    const cost = own.reduce((sum, i) => sum + this.#pieces[i]!.cost, 0);
    busy.set(lane, (busy.get(lane) ?? 0) + cost);
    this.#open++;
    let result: LaneResult | LaneLoss;
    try {
      result = await lane.compute({ ...work, ...(stop && { stop }) });
    } catch (error) {
      // Nobody will want the rest.
      if (!this.#forgives(error)) this.#shared.fail();
      throw error;
    } finally {
      this.#open--;
      busy.set(lane, busy.get(lane)! - cost);
    }
    if ('died' in result) {
      const left = own.filter((i) => this.#shared.isFree(i));
      return this.#again([...left, ...this.#shared.release(task)], result, tries);
    }
    const { batches, rows, computeMs } = result;
    this.#shares.push({ lane, cost: workCost(batches, rows, callRows), ms: computeMs });
  }

  /** Pieces that a lane may take off others, those that come last first. */
  #others(lane: number): number[] {
    const { batches, generation } = this.#parts;
    const others: number[] = [];
    for (let i = this.#pieces.length - 1; i >= 0; i--) {
      const { batch, lane: home } = this.#pieces[i]!;
      const { expert } = batches[batch]!;
      if (home !== lane && holds(generation, lane, expert)) others.push(i);
    }
    return others;
  }

  /** Has what a dead lane left computed by others, or by the one that takes its place: experts are pure. */
  async #again(left: readonly number[], { died }: LaneLoss, tries: number): Promise<void> {
    const { generation, batches, stop, drops } = this.#parts;
    const gone = isStopped(stop) || tries >= MAX_TRIES;
    const costs = generation.lanes.map((lane) => this.#parts.busy.get(lane) ?? 0);
    const retried: number[] = [];
    for (const i of left) {
      const piece = this.#pieces[i]!;
      const { expert } = batches[piece.batch]!;
      const lanes = gone ? [] : soonest(expert, generation);
      if (lanes.length === 0 && !drops) throw lostError(expert, tries, died);
      if (lanes.length === 0) continue;
      piece.lane = lanes.reduce((best, lane) => (costs[lane]! < costs[best]! ? lane : best));
      costs[piece.lane]! += piece.cost;
      retried.push(i);
    }
    await this.#send(retried, tries + 1);
  }

  /** With `drops`, work that fails for want of its lanes counts as done; its pieces stay undone. */
  #orLost(task: Promise<void>): Promise<void> {
    const { drops, late } = this.#parts;
    if (!drops) return task;
    const orLost = task.catch((error) => {
      if (!this.#forgives(error)) throw error;
    });
    return late ? Promise.race([orLost, late]) : orLost;
  }

  #forgives(error: unknown): boolean {
    return this.#parts.drops && LOST_CODES.includes((error as TurnoutError).code);
  }
}

/** A piece, and the lane that it is meant for. */
type HomePiece = Piece & { lane: number };

/** Spreads over the lanes that can compute soonest, among those that hold each expert. */
function piecesOf({ batches, generation, busy, paces, callRows }: LaneCallParts): HomePiece[] {
  const { lanes, placement } = generation;
  const replicas = [...placement.replicas];
  for (const { expert } of batches) {
    const first = soonest(expert, generation);
    if (first.length > 0) replicas[expert] = first;
  }
  const fit: Placement = { ...placement, replicas };
  const loads = {
    busy: lanes.map((lane) => busy.get(lane) ?? 0),
    paces: lanes.map((lane) => paces.of(lane)),
    callRows,
  };
  const counts = batches.map(({ expert, rows }) => ({ expert, rows: rows.length }));
  const pieces: HomePiece[] = [];
  // Field by field: an object spread takes as long as all the rest of this.
  for (const [lane, own] of spread(counts, fit, loads).entries())
    for (const { batch, start, rows, cost } of own) pieces.push({ batch, start, rows, cost, lane });
  return pieces.sort((a, b) => a.batch - b.batch || a.start - b.start);
}

/** Of the lanes that hold an expert, those that can compute its version of this generation soonest; none where all refuse. */
function soonest(expert: number, { lanes, placement, keys }: Generation): readonly number[] {
  const own = placement.replicas[expert]!;
  const that = (when: 'now' | 'soon') => (lane: number) => lanes[lane]!.takes(keys[expert]!) === when;
  if (own.every(that('now'))) return own;
  return own.some(that('now')) ? own.filter(that('now')) : own.filter(that('soon'));
}

/** Each matrix that rows are taken from, and where its rows begin among all of them. */
function sourcesOf(batches: readonly ExpertBatch[]): Map<Matrix, number> {
  const sources = new Map<Matrix, number>();
  let rows = 0;
  for (const { x } of batches) {
    if (sources.has(x)) continue;
    sources.set(x, rows);
    rows += x.rows;
  }
  return sources;
}

function holds({ lanes, placement, keys }: Generation, lane: number, expert: number): boolean {
  return placement.replicas[expert]!.includes(lane) && lanes[lane]!.takes(keys[expert]!) === 'now';
}

/** All settle before the first failure is thrown, so that what has failed leaves no work behind. */
async function allOf(tasks: readonly Promise<void>[]): Promise<void> {
  const outcomes = await Promise.allSettled(tasks);
  for (const outcome of outcomes) if (outcome.status === 'rejected') throw outcome.reason;
}

/** [n + 1] sums of the numbers before each. */
function sumsOf(numbers: readonly number[]): number[] {
  const sums = [0];
  for (const [i, n] of numbers.entries()) sums.push(sums[i]! + n);
  return sums;
}

function lostError(expert: number, tries: number, cause: TurnoutError): TurnoutError {
  const message = `expert ${expert} cannot be had on any lane (tries: ${tries}): ${cause.message}`;
  return new TurnoutError('TURNOUT_EXPERT_LOST', message, { expert, tries, ...cause.details }, { cause });
}
