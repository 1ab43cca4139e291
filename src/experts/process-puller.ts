import type { ExpertProcess } from './expert-process.js';
import { isStopped } from './limits.js';
import { workCost } from './placement.js';
import type { ComputeTask } from './process-carrier.js';
import type { Ran } from './process-link.js';
import { SharedCall } from './shared-call.js';

/** What a process has at a time: one part that it computes, and one that waits there for its turn. */
const DEPTH = 2;
/** Cost below which a message of its own takes longer than it brings. */
const MIN_PART_COST = 48;

/**
 * Takes the pieces of one task and has a process compute them, part by part: a small one to begin with, then half of what
 * is left each time, so that others can take what a slow process has not begun. The next of its own parts lies ready
 * when one is answered; its last piece, and those of others, it takes when it has nothing to do.
 */
export class Puller {
  readonly #process: ExpertProcess;
  readonly #task: ComputeTask;
  readonly #call: SharedCall;
  /** Those after `#next` are to be tried yet. */
  #next = 0;
  #left: number;
  #parts = 0;
  #inFlight = 0;
  #memory: Ran['memory'] | undefined;
  readonly #done = { batches: 0, rows: 0, computeMs: 0 };

  constructor(process: ExpertProcess, task: ComputeTask) {
    this.#process = process;
    this.#task = task;
    this.#call = new SharedCall(task.call);
    this.#left = this.#costOf(task.pieces.slice(0, task.own));
  }

  /** Throws TURNOUT_LANE_DIED where the process ends first, once it touches nothing of the call any more. */
  async run() {
    const workers = await Promise.allSettled(Array.from({ length: DEPTH }, () => this.#pull()));
    for (const worker of workers) if (worker.status === 'rejected') throw worker.reason;
    return { ...this.#done, ...(this.#memory && { memory: this.#memory }) };
  }

  async #pull(): Promise<void> {
    for (let part = this.#take(); part.length > 0; part = this.#take()) {
      this.#inFlight++;
      await this.#compute(part);
      this.#inFlight--;
    }
  }

  /** The next pieces; none where there are no more, or where it has enough to do with its own. */
  #take(): number[] {
    const { pieces, task, own, stop } = this.#task;
    // A piece that waits here while another process has nothing to do costs more than a message does.
    const end = this.#inFlight > 0 ? own - 1 : pieces.length;
    const enough = this.#parts++ === 0 ? MIN_PART_COST : Math.max(MIN_PART_COST, this.#left / 2);
    const part: number[] = [];
    for (let cost = 0; cost < enough && this.#next < end && !isStopped(stop); ) {
      const i = pieces[this.#next++]!;
      const itsCost = this.#costOf([i]);
      if (this.#next <= own) this.#left -= itsCost;
      if (!this.#call.take(i, task)) continue;
      part.push(i);
      cost += itsCost;
    }
    return part;
  }

  async #compute(part: readonly number[]): Promise<void> {
    const { stop, call } = this.#task;
    const pieces = part.map((i) => this.#call.piece(i));
    const batches = pieces.map((piece) => {
      const x = this.#call.y(piece);
      this.#call.gather(piece, x);
      return { key: piece.key, x };
    });
    const { memory, ...ran } = await this.#process.run({ batches, ...(stop && { stop }) }, call.hidden);
    this.#memory = memory;
    for (const key of ['batches', 'rows', 'computeMs'] as const) this.#done[key] += ran[key];
    // One that was stopped has answered unfinished.
    if (ran.batches === part.length) for (const i of part) this.#call.whole(i);
  }

  #costOf(pieces: readonly number[]): number {
    const rows = pieces.reduce((sum, i) => sum + this.#call.piece(i).rows, 0);
    return workCost(pieces.length, rows);
  }
}
