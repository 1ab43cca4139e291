/*
 * When a lane that died starts again. The first death in a row is followed by a start at once; each further one waits
 * twice as long as the one before. A row ends with an answer, or with a life that was long enough.
 */

const FIRST_WAIT_MS = 100;
const LONGEST_WAIT_MS = 10_000;
/** Deaths in a row that open the circuit: by then some two seconds have passed. */
const OPEN_AFTER = 5;
const LONG_LIFE_MS = 10_000;

export class Health {
  #deaths = 0;
  #bornAt: number | undefined;
  readonly #now: () => number;

  constructor(now: () => number = () => performance.now()) {
    this.#now = now;
  }

  /** `open` where it is not worth waiting for the lane, `half-open` once it lives again and has not answered yet. */
  get circuit(): 'closed' | 'open' | 'half-open' {
    if (this.#deaths < OPEN_AFTER) return 'closed';
    return this.#bornAt === undefined ? 'open' : 'half-open';
  }

  /** It is ready for calls. */
  born(): void {
    this.#bornAt = this.#now();
  }

  answered(): void {
    this.#deaths = 0;
  }

  /** It has died, or could not start -> milliseconds to wait before the next start. */
  died(): number {
    const lived = this.#bornAt === undefined ? 0 : this.#now() - this.#bornAt;
    this.#bornAt = undefined;
    this.#deaths = lived >= LONG_LIFE_MS ? 1 : this.#deaths + 1;
    return this.#deaths === 1 ? 0 : Math.min(LONGEST_WAIT_MS, FIRST_WAIT_MS * 2 ** (this.#deaths - 2));
  }
}

/** Runs tasks, at most `limit` at the same time, in their order. Rejects with the first error, once all that began have ended. */
export async function atMost<T>(limit: number, tasks: readonly (() => Promise<T>)[]): Promise<T[]> {
  const results: T[] = new Array(tasks.length);
  const failures: unknown[] = [];
  let next = 0;
  const worker = async () => {
    while (next < tasks.length && failures.length === 0) {
      const i = next++;
      await tasks[i]!().then(
        (value) => {
          results[i] = value;
        },
        (error) => failures.push(error),
      );
    }
  };
  await Promise.all(Array.from({ length: limit }, worker));
  if (failures.length > 0) throw failures[0];
  return results;
}
