import type { ExpertBackend, ExpertBatch } from '../../src/experts/backend.js';
import { wholeBatch } from '../../src/experts/batches.js';
import { agree } from '../support/cases.js';
import { normals } from '../support/experts.js';

/** Calls of all experts, each after the one before has been answered, until stopped. Every answer is checked. */
export class CallLoad {
  /** Rejects where a call fails or has another answer than the first one had. */
  readonly failed: Promise<never>;
  readonly #calls: { readonly end: number; readonly ms: number }[] = [];
  readonly #waiting = new Set<() => void>();
  readonly #ended: Promise<void>;
  #stopped = false;

  private constructor(
    backend: ExpertBackend,
    batches: readonly ExpertBatch[],
    expected: readonly Float32Array[],
  ) {
    this.#ended = this.#run(backend, batches, expected);
    this.failed = new Promise((_, reject) => {
      this.#ended.catch(reject);
    });
    this.failed.catch(() => {});
  }

  /** `rows` of each expert in every call. */
  static async start(backend: ExpertBackend, rows: number): Promise<CallLoad> {
    const x = Float32Array.from({ length: rows * backend.hidden }, normals(rows));
    const batches = Array.from({ length: backend.experts }, (_, expert) =>
      wholeBatch(expert, x, backend.hidden),
    );
    const { outputs } = await backend.run(batches);
    return new CallLoad(backend, batches, outputs);
  }

  async #run(
    backend: ExpertBackend,
    batches: readonly ExpertBatch[],
    expected: readonly Float32Array[],
  ): Promise<void> {
    while (!this.#stopped) {
      const begin = performance.now();
      const { outputs } = await backend.run(batches);
      const end = performance.now();
      this.#calls.push({ end, ms: end - begin });
      for (const look of this.#waiting) look();
      for (const [i, y] of outputs.entries()) agree(`expert ${i} under load`, y, expected[i]!, 0);
    }
  }

  /** Resolves with the time at which a call was answered after which `met` is true. */
  until(met: () => boolean): Promise<number> {
    return new Promise((resolve) => {
      const look = () => {
        if (!met()) return;
        this.#waiting.delete(look);
        resolve(performance.now());
      };
      this.#waiting.add(look);
    });
  }

  /** Milliseconds of each call that ended in this time. */
  between(from: number, to: number): number[] {
    return this.#calls.filter(({ end }) => end >= from && end <= to).map(({ ms }) => ms);
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    await this.#ended;
  }
}
