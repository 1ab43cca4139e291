import type { ServerChild } from './programs.js';

const EVERY_MS = 250;

/** Looks four times a second at how many rows the engine of a server has passed. */
export class StepWatch implements Disposable {
  readonly #samples: { readonly at: number; readonly rows: number }[] = [];
  readonly #begin = performance.now();
  readonly #timer: NodeJS.Timeout;

  constructor(server: ServerChild) {
    this.#timer = setInterval(async () => {
      const rows = await server.ask('rows').catch(() => undefined);
      if (rows !== undefined) this.#samples.push({ at: performance.now() - this.#begin, rows });
    }, EVERY_MS);
  }

  /** From `from` to `to`, in milliseconds since the watch began. */
  rowsPerSecond(from: number, to: number): number {
    const within = this.#samples.filter(({ at }) => at >= from && at <= to);
    const [first, last] = [within[0], within.at(-1)];
    if (!first || !last || first === last) return Number.NaN;
    return ((last.rows - first.rows) / (last.at - first.at)) * 1000;
  }

  [Symbol.dispose](): void {
    clearInterval(this.#timer);
  }
}
