import { stat } from 'node:fs/promises';
import type {
  BackendCall,
  ExpertBackend,
  ExpertBatch,
  ExpertFile,
  ExpertResults,
  LaneStats,
} from './backend.js';
import { wholeBatch } from './batches.js';
import { type CallCosts, costsOf, msHere, msOnLanes } from './call-costs.js';
import { openInline } from './inline.js';
import { openThreads, type ThreadsOptions } from './threads.js';

/** Experts are held once more, in this thread, only where all their files are not larger. */
const MOST_COPIED_BYTES = 256 * 2 ** 20;

/** Of the calls that are timed when it opens: rows of a batch are doubled until they are enough to tell what one takes. */
const FIRST_ROWS = 32;
const MOST_ROWS = 1024;
const ENOUGH_MS = 2;
const BATCHES_PER_LANE = 2;
/** Readings of each, and the time after which no more than the least are taken. */
const FIRST_CALLS = 2;
const LEAST_READINGS = 4;
const READINGS = 50;
const READING_MS = 15;

/**
 * Opens experts in worker threads as `openThreads` does, and in this thread as well: each call goes where it will be over
 * sooner, by costs that are measured on these experts before this returns. So a call of a few rows of small experts
 * does not wait for other threads to wake, and blocks this one for no longer than that would take. Experts of more than
 * 256 MiB in all, with the external data that `files` name, are held by the threads alone: waking them is little beside
 * what those take. Throws what `openThreads` throws.
 */
export async function openAuto(
  files: readonly ExpertFile[],
  options: ThreadsOptions = {},
): Promise<ExpertBackend> {
  const threads = await openThreads(files, options);
  try {
    const { residency, hidden } = threads;
    if ((await bytesOf(files)) > MOST_COPIED_BYTES) return new AutoBackend(threads);
    const inline = await openInline(files, { residency, hidden });
    try {
      return new AutoBackend(threads, await measured(inline, threads));
    } catch (error) {
      await inline.close();
      throw error;
    }
  } catch (error) {
    await threads.close();
    throw error;
  }
}

const COUNTS = ['calls', 'batches', 'rows', 'computeMs'] as const;

/** The experts in this thread, and what calls take here and on the lanes. */
interface Here {
  readonly inline: ExpertBackend;
  readonly costs: CallCosts;
}

/** Lanes for what is worth waking them, this thread for the rest. */
class AutoBackend implements ExpertBackend {
  readonly kind = 'auto';
  readonly #threads: ExpertBackend;
  readonly #here: Here | undefined;
  /** What each lane had counted when it opened: the calls that were timed are nobody's. */
  readonly #before: readonly LaneStats[];

  constructor(threads: ExpertBackend, here?: Here) {
    this.#threads = threads;
    this.#here = here;
    this.#before = this.#lanes();
  }

  get experts() {
    return this.#threads.experts;
  }

  get hidden() {
    return this.#threads.hidden;
  }

  get residency() {
    return this.#threads.residency;
  }

  run(batches: readonly ExpertBatch[], options?: BackendCall): Promise<ExpertResults> {
    return this.#choose(batches).run(batches, options);
  }

  #choose(batches: readonly ExpertBatch[]): ExpertBackend {
    if (!this.#here) return this.#threads;
    const { inline, costs } = this.#here;
    let rows = 0;
    for (const batch of batches) rows += batch.rows.length;
    const here = msHere(costs, batches.length, rows);
    return here <= msOnLanes(costs, batches.length, rows) ? inline : this.#threads;
  }

  lanes(): readonly LaneStats[] {
    return this.#lanes().map((lane, i) => {
      const counts = COUNTS.map((key) => [key, lane[key] - this.#before[i]![key]]);
      return { ...lane, ...Object.fromEntries(counts) };
    });
  }

  /** The threads, then this one. */
  #lanes(): readonly LaneStats[] {
    const threads = this.#threads.lanes();
    const here = this.#here?.inline.lanes() ?? [];
    return [...threads, ...here.map((lane) => ({ ...lane, lane: threads.length }))];
  }

  async close(): Promise<void> {
    await Promise.all([this.#threads.close(), this.#here?.inline.close()]);
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}

async function bytesOf(files: readonly ExpertFile[]): Promise<number> {
  const paths = new Set(files.flatMap(({ path, data = [] }) => [path, ...data]));
  const sizes = await Promise.all([...paths].map(async (path) => (await stat(path)).size));
  return sizes.reduce((sum, size) => sum + size, 0);
}

async function measured(inline: ExpertBackend, threads: ExpertBackend): Promise<Here> {
  const lanes = threads.lanes().length;
  const batches = Math.max(2, BATCHES_PER_LANE * lanes);
  let rows = FIRST_ROWS;
  let rowsMs = await typicalMs(inline, batches, rows);
  while (rows < MOST_ROWS && rowsMs < ENOUGH_MS) {
    rows *= 2;
    rowsMs = await typicalMs(inline, batches, rows);
  }
  const few = async (backend: ExpertBackend) => ({
    one: await typicalMs(backend, 1, 1),
    batches: await typicalMs(backend, batches, 1),
  });
  const [here, there] = [{ ...(await few(inline)), rows: rowsMs }, await few(threads)];
  return { inline, costs: costsOf({ lanes, batches, rows, here, there }) };
}

/** The lower quartile of some calls of the same experts, which others who use the machine move least; first calls make room and are none of them. */
async function typicalMs(backend: ExpertBackend, batches: number, rows: number): Promise<number> {
  const x = new Float32Array(rows * backend.hidden);
  const call = Array.from({ length: batches }, (_, b) => wholeBatch(b % backend.experts, x, backend.hidden));
  const readings: number[] = [];
  for (let i = 0; i < FIRST_CALLS; i++) (await backend.run(call, { lend: true })).recycle?.();
  const from = performance.now();
  while (
    readings.length < LEAST_READINGS ||
    (readings.length < READINGS && performance.now() - from < READING_MS)
  ) {
    const started = performance.now();
    (await backend.run(call, { lend: true })).recycle?.();
    readings.push(performance.now() - started);
  }
  return readings.sort((a, b) => a - b)[readings.length >> 2]!;
}
