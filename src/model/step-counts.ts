import { addTimes, type ModelTimes, noTimes } from './program.js';

/** Upper ends of the classes in which steps are counted by their rows. */
const ROWS = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024] as const;

/** What an engine has done since its begin. */
export interface EngineTotals {
  readonly steps: number;
  readonly rows: number;
  /** Steps by rows: `counts[i]` had at most `le[i]` rows and more than the class before; the last count is of all above. */
  readonly stepRows: {
    readonly le: readonly number[];
    readonly counts: readonly number[];
    readonly sum: number;
  };
  /** Milliseconds by stage. */
  readonly stageMs: ModelTimes;
}

/** Counts the steps of an engine. */
export class StepCounts {
  #steps = 0;
  #rows = 0;
  readonly #classes = new Array<number>(ROWS.length + 1).fill(0);
  readonly #stageMs = noTimes();

  add(rows: number, times: ModelTimes): void {
    this.#steps++;
    this.#rows += rows;
    const fit = ROWS.findIndex((most) => rows <= most);
    this.#classes[fit < 0 ? ROWS.length : fit]!++;
    addTimes(this.#stageMs, times);
  }

  totals(): EngineTotals {
    const stepRows = { le: ROWS, counts: [...this.#classes], sum: this.#rows };
    return { steps: this.#steps, rows: this.#rows, stepRows, stageMs: { ...this.#stageMs } };
  }
}
