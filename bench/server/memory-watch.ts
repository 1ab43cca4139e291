import { type ProcessState, processState } from './process-stats.js';

export interface Sample extends ProcessState {
  /** Milliseconds since the watch began. */
  readonly at: number;
}

const EVERY_MS = 1000;
export const MINUTE_MS = 60_000;

/** Looks each second at what a process holds. */
export class MemoryWatch implements Disposable {
  readonly samples: Sample[] = [];
  readonly #begin = performance.now();
  readonly #timer: NodeJS.Timeout;

  constructor(pid: number) {
    this.#timer = setInterval(() => {
      this.samples.push({ at: performance.now() - this.#begin, ...processState(pid) });
    }, EVERY_MS);
  }

  /** Median of one figure from `from` to `to`, in milliseconds since the watch began; NaN where nothing was seen. */
  median(key: keyof ProcessState, from: number, to: number): number {
    const values = this.samples.filter(({ at }) => at >= from && at < to).map((sample) => sample[key]);
    return values.sort((a, b) => a - b)[values.length >> 1] ?? Number.NaN;
  }

  medians(from: number, to: number): ProcessState {
    return {
      rssBytes: this.median('rssBytes', from, to),
      threads: this.median('threads', from, to),
      descriptors: this.median('descriptors', from, to),
    };
  }

  [Symbol.dispose](): void {
    clearInterval(this.#timer);
  }
}
