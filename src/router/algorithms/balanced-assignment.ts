import type { Matrix } from '../../tensor.js';

/*
 * The linear assignment of BASE layers (Lewis et al. 2021, eq. 3): each token one expert, sizes that differ by at most
 * one, the largest sum of logits. The paper uses an auction that is exact to a tolerance; here tokens come in one by one,
 * each along the shortest augmenting path over the experts, which is exact and needs no tolerance.
 *
 * With T = q * E + r, every expert takes q tokens and r of them one more. A node of the search is an expert that holds
 * one token more than it may. It gets rid of it by moving one of its tokens to another expert (which then is the node),
 * or by taking over the right to the (q + 1)-th token from an expert that has it.
 */

/** One step of a path: `token` moves from `from` to `to`, or the right to one more does where it is -1. */
interface Step {
  readonly from: number;
  readonly token: number;
}

class Assignment {
  /** [n] expert of each row; -1 before it has come in. */
  readonly expert: Int32Array;
  readonly #gain: (row: number, expert: number) => number;
  readonly #E: number;
  /** q: tokens that every expert may take. */
  readonly #base: number;
  /** Rights to one token more that nobody has taken yet. */
  #extras: number;
  readonly #count: Int32Array;
  readonly #members: readonly Set<number>[];
  /** [from][to] least loss of moving one token, and which token that is. */
  readonly #cheapest: readonly Float64Array[];
  readonly #mover: readonly Int32Array[];

  constructor(gain: (row: number, expert: number) => number, rows: number, E: number) {
    this.#gain = gain;
    this.#E = E;
    this.#base = Math.floor(rows / E);
    this.#extras = rows % E;
    this.expert = new Int32Array(rows).fill(-1);
    this.#count = new Int32Array(E);
    this.#members = Array.from({ length: E }, () => new Set<number>());
    this.#cheapest = Array.from({ length: E }, () => new Float64Array(E).fill(Infinity));
    this.#mover = Array.from({ length: E }, () => new Int32Array(E).fill(-1));
  }

  /** Brings row `row` in; false where no chain of allowed moves makes room for it. */
  insert(row: number): boolean {
    const E = this.#E;
    const loss = Float64Array.from({ length: E }, (_, e) => -this.#gain(row, e));
    const steps: (Step | undefined)[] = new Array(E).fill(undefined);
    for (let changed = true; changed; ) {
      changed = false;
      for (let from = 0; from < E; from++) {
        if (loss[from] === Infinity) continue;
        for (let to = 0; to < E; to++) {
          const right = this.#takesRight(from, to);
          const sum = loss[from] + (right ? 0 : this.#cheapest[from][to]);
          // Rounding must not make a cycle look like a gain.
          if (sum >= loss[to] - 1e-9) continue;
          loss[to] = sum;
          steps[to] = { from, token: right ? -1 : this.#mover[from][to] };
          changed = true;
        }
      }
    }
    const end = this.#bestEnd(loss);
    if (end < 0) return false;
    this.#apply(row, end, steps);
    return true;
  }

  /** Whether `from` had better take the right to one token more from `to` than move a token there. */
  #takesRight(from: number, to: number): boolean {
    if (this.#count[from] !== this.#base || this.#count[to] !== this.#base + 1) return false;
    return from !== to && this.#cheapest[from][to] > 0;
  }

  /** The expert with room that the least loss leads to. */
  #bestEnd(loss: Float64Array): number {
    let best = -1;
    for (let e = 0; e < this.#E; e++) {
      const room = this.#count[e] < this.#base || (this.#count[e] === this.#base && this.#extras > 0);
      if (room && loss[e] < Infinity && (best < 0 || loss[e] < loss[best])) best = e;
    }
    return best;
  }

  #apply(row: number, end: number, steps: readonly (Step | undefined)[]): void {
    if (this.#count[end] === this.#base) this.#extras--;
    const changed = new Set([end]);
    let at = end;
    for (let step = steps[at]; step; step = steps[at]) {
      changed.add(step.from);
      if (step.token >= 0) this.#move(step.token, step.from, at);
      at = step.from;
    }
    this.#move(row, -1, at);
    for (const e of changed) this.#refresh(e);
  }

  #move(row: number, from: number, to: number): void {
    if (from >= 0) {
      this.#members[from].delete(row);
      this.#count[from]--;
    }
    this.#members[to].add(row);
    this.#count[to]++;
    this.expert[row] = to;
  }

  #refresh(from: number): void {
    this.#cheapest[from].fill(Infinity);
    this.#mover[from].fill(-1);
    for (const row of this.#members[from]) {
      for (let to = 0; to < this.#E; to++) {
        const cost = this.#gain(row, from) - this.#gain(row, to);
        if (to === from || cost >= this.#cheapest[from][to]) continue;
        this.#cheapest[from][to] = cost;
        this.#mover[from][to] = row;
      }
    }
  }
}

/** Rows of logits [T, E] -> the expert of each; -1 for a row whose allowed experts are all full. */
export function balancedAssignment(logits: Matrix, rows: readonly number[]): Int32Array {
  const E = logits.cols;
  const assignment = new Assignment((i, e) => logits.data[rows[i] * E + e], rows.length, E);
  for (let i = 0; i < rows.length; i++) assignment.insert(i);
  return assignment.expert;
}
