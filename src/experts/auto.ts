import { stat } from 'node:fs/promises';
import { totalmem } from 'node:os';
import { TurnoutError } from '../errors.js';
import type {
  BackendCall,
  ExpertBackend,
  ExpertBatch,
  ExpertFile,
  ExpertResults,
  LaneStats,
} from './backend.js';
import { wholeBatch } from './batches.js';
import { CallChooser } from './call-chooser.js';
import { type CallCosts, type CallRows, callRowsOf, costsOf, type MostHere } from './call-costs.js';
import { joinedBy } from './here-lane.js';
import { openInline } from './inline.js';
import { LanesBackend } from './lanes-backend.js';
import { openThreadLanes, type ThreadsOptions } from './threads.js';

/** Of the memory that this process may have: larger experts are not held once more, in this thread. */
const MOST_COPIED_SHARE = 1 / 16;

/** Batches, for each lane, of the calls that are timed when it opens. */
const FEW_PER_LANE = 2;
const MANY_PER_LANE = 8;
/** Experts that are timed, in calls of many: more than caches hold, and few enough that each has been run before. */
const CALLS_OF_OTHERS = 2;
/** Calls of many before the first one that is timed, so that each lane has run about every one of them. */
const WARM_CALLS = 4;
/** Rows of a batch are doubled until they are enough to tell what one takes. */
const FIRST_ROWS = 32;
const MOST_ROWS = 1024;
const ENOUGH_MS = 2;
const TURNS_MS = 100;
const LEAST_TURNS = 4;

/**
 * This thread takes part only where no piece and no call takes longer. During a piece its event loop stands still, and it
 * has only turns between pieces while the call lasts; what others gain by its help is little beside a long call.
 */
const MOST_HERE: MostHere = { pieceMs: 5, callMs: 20 };

/**
 * Opens experts in worker threads as `openThreads` does, and in this thread as well: each call goes where it will be over
 * soonest, by costs that are measured on these experts before this returns, and by what calls take from then on. Calls of
 * a few rows are computed here, for other threads would have to wake up; larger ones here and in all threads but one, so
 * that every core has a thread; those of large pieces (5 ms) and long ones (20 ms) in the threads alone, for this thread's
 * event loop stands still during each piece, and for up to 1 ms until the others have done theirs. Experts whose files,
 * with the external data that `files` name, take more than a sixteenth of the memory that this process may have are held
 * by the threads alone. Throws what `openThreads` throws.
 */
export async function openAuto(
  files: readonly ExpertFile[],
  options: ThreadsOptions = {},
): Promise<ExpertBackend> {
  const { generation, info } = await openThreadLanes(files, options);
  const threads = new LanesBackend(generation, info);
  try {
    const { residency, hidden } = threads;
    if ((await bytesOf(files)) > MOST_COPIED_SHARE * memoryBytes()) return new AutoBackend(threads);
    const inline = await openInline(files, { residency, hidden });
    try {
      const ways = (shares: { readonly callRows?: number } = {}): Backends => ({
        inline,
        joined: new LanesBackend(joinedBy(inline, generation), { ...info, ...shares, kind: 'auto' }),
        threads: new LanesBackend(generation, { ...info, ...shares }),
      });
      const costs = await measured(ways());
      const chosen = ways({ callRows: callRowsOf(costs) });
      return new AutoBackend(chosen.threads, { ...chosen, chooser: new CallChooser(costs, MOST_HERE) });
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

/** `joined` has lanes that are the others' to close. */
interface Backends {
  readonly inline: ExpertBackend;
  readonly joined: LanesBackend;
  readonly threads: LanesBackend;
}

/** What this thread needs to take part. */
type Here = Omit<Backends, 'threads'> & { readonly chooser: CallChooser };

/** Each call where it will be over soonest. */
class AutoBackend implements ExpertBackend {
  readonly kind = 'auto';
  readonly #threads: LanesBackend;
  readonly #here: Here | undefined;
  /** What each lane had counted when it opened: the calls that were timed are nobody's. */
  readonly #before: readonly LaneStats[];
  /** Calls under way, and calls so far. */
  #active = 0;
  #begun = 0;
  #closed: Promise<void> | undefined;

  constructor(threads: LanesBackend, here?: Here) {
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

  async run(batches: readonly ExpertBatch[], options?: BackendCall): Promise<ExpertResults> {
    if (this.#closed) throw new TurnoutError('TURNOUT_CLOSED', 'the auto backend is closed');
    return this.#here ? this.#runChosen(this.#here, batches, options) : this.#threads.run(batches, options);
  }

  async #runChosen(
    here: Here,
    batches: readonly ExpertBatch[],
    options: BackendCall | undefined,
  ): Promise<ExpertResults> {
    const { way, took } = here.chooser.choose(rowsOf(batches));
    const backend = way === 'threads' ? this.#threads : here[way];
    const others = this.#active++;
    const begun = ++this.#begun;
    const started = performance.now();
    try {
      const results = await backend.run(batches, options);
      // Calls that share lanes tell nothing of how long they would take alone.
      if (others === 0 && begun === this.#begun) took(performance.now() - started);
      return results;
    } finally {
      this.#active--;
    }
  }

  lanes(): readonly LaneStats[] {
    return this.#lanes().map((lane, i) => {
      const counts = COUNTS.map((key) => [key, lane[key] - this.#before[i]![key]]);
      return { ...lane, ...Object.fromEntries(counts), ...(this.#closed && { state: 'draining' }) };
    });
  }

  /** The threads, then this one. */
  #lanes(): readonly LaneStats[] {
    const threads = this.#threads.lanes();
    const here = this.#here?.inline.lanes() ?? [];
    return [...threads, ...here.map((lane) => ({ ...lane, lane: threads.length }))];
  }

  close(): Promise<void> {
    this.#closed ??= this.#close();
    return this.#closed;
  }

  async #close(): Promise<void> {
    // Each has lanes that others use: none is closed before all calls have ended.
    await Promise.all([this.#threads.drain(), this.#here?.joined.drain()]);
    await Promise.all([this.#threads.close(), this.#here?.inline.close()]);
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}

function rowsOf(batches: readonly ExpertBatch[]): CallRows {
  let [rows, most] = [0, 0];
  for (const batch of batches) {
    // One that is malformed is refused by whoever gets it.
    const count = batch.rows?.length ?? 0;
    rows += count;
    most = Math.max(most, count);
  }
  return { batches: batches.length, rows, most };
}

/** What the machine has, or less where this process is held to less. */
function memoryBytes(): number {
  return Math.min(totalmem(), process.constrainedMemory() || Infinity);
}

async function bytesOf(files: readonly ExpertFile[]): Promise<number> {
  const paths = new Set(files.flatMap(({ path, data = [] }) => [path, ...data]));
  const sizes = await Promise.all([...paths].map(async (path) => (await stat(path)).size));
  return sizes.reduce((sum, size) => sum + size, 0);
}

async function measured({ inline, joined, threads }: Backends): Promise<CallCosts> {
  const lanes = threads.lanes().length;
  const batches = { few: FEW_PER_LANE * lanes, many: MANY_PER_LANE * lanes };
  const others = { experts: Math.min(inline.experts, CALLS_OF_OTHERS * batches.many), hidden: inline.hidden };
  const [few, many] = [batches.few, batches.many].map((count) => callsOf(others, count, 1));
  // The first run of a session takes several times as long as the next.
  for (let call = 0; call < WARM_CALLS; call++)
    for (const backend of [inline, joined, threads]) await timed(backend, many!);
  let [rows, large] = [FIRST_ROWS, callsOf(others, batches.few, FIRST_ROWS)];
  while (rows < MOST_ROWS && (await timed(inline, large)) < ENOUGH_MS) {
    rows *= 2;
    large = callsOf(others, batches.few, rows);
  }
  const ms = await inTurns({
    hereFew: () => secondOf(inline, few!),
    hereMany: () => timed(inline, many!),
    hereRows: () => timed(inline, large),
    joinedFew: () => secondOf(joined, few!),
    joinedMany: () => timed(joined, many!),
    threadsFew: () => secondOf(threads, few!),
    threadsMany: () => timed(threads, many!),
  });
  return costsOf({
    lanes,
    batches,
    rows,
    here: { few: ms.hereFew, many: ms.hereMany, rows: ms.hereRows },
    joined: { few: ms.joinedFew, many: ms.joinedMany },
    threads: { few: ms.threadsFew, many: ms.threadsMany },
  });
}

/** Calls whose experts follow those of the call before: what one has just read is not what the next one needs. */
function callsOf(
  { experts, hidden }: Pick<ExpertBackend, 'experts' | 'hidden'>,
  batches: number,
  rows: number,
): () => ExpertBatch[] {
  const x = new Float32Array(rows * hidden);
  let next = 0;
  return () => Array.from({ length: batches }, () => wholeBatch(next++ % experts, x, hidden));
}

async function timed(backend: ExpertBackend, nextCall: () => ExpertBatch[]): Promise<number> {
  const call = nextCall();
  const started = performance.now();
  (await backend.run(call, { lend: true })).recycle?.();
  return performance.now() - started;
}

/** Of two calls in a row, as a model's follow each other: threads may have slept before the first. */
async function secondOf(backend: ExpertBackend, nextCall: () => ExpertBatch[]): Promise<number> {
  await timed(backend, nextCall);
  return timed(backend, nextCall);
}

/**
 * Each of some readings, taken in turns: the lower quartile of the later half, which others who use the machine move
 * least. In the earlier half code is compiled and memory handed out.
 */
async function inTurns<K extends string>(
  readings: Readonly<Record<K, () => Promise<number>>>,
): Promise<Record<K, number>> {
  const taken = Object.entries(readings).map(([name, read]) => ({
    name: name as K,
    read: read as () => Promise<number>,
    ms: [] as number[],
  }));
  const until = performance.now() + TURNS_MS;
  for (let turn = 0; turn < LEAST_TURNS || performance.now() < until; turn++)
    for (const { read, ms } of taken) ms.push(await read());
  const quartile = (ms: readonly number[]) => {
    const later = ms.slice(ms.length >> 1).sort((a, b) => a - b);
    return later[later.length >> 2]!;
  };
  return Object.fromEntries(taken.map(({ name, ms }) => [name, quartile(ms)])) as Record<K, number>;
}
