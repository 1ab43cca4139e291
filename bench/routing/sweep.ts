import { setImmediate } from 'node:timers/promises';
import { TurnoutError } from '../../src/errors.js';
import type { Combination } from './combinations.js';
import type { BaselineBits } from './quality.js';
import type { Row } from './report-schema.js';
import type { CallRun, Source } from './source.js';
import { describe, Tally } from './tally.js';
import { callMs } from './times.js';

export interface SweepOptions {
  readonly source: Source;
  readonly combinations: readonly Combination[];
  /** Run first, and compared with; need not be among the others. */
  readonly baseline: Combination | undefined;
  /** How often all calls are made; the times of all count. */
  readonly repeats: number;
  /** Rows that an earlier run has finished, by id. */
  readonly finished?: ReadonlyMap<string, Row>;
  readonly signal?: AbortSignal;
  /** Told of each row that is new. */
  readonly onRow?: (row: Row) => Promise<void>;
  readonly onProgress?: (done: number, total: number, name: string) => void;
}

/** Rows between two looks at how fast the machine is. */
const LOOK_EVERY = 10;

/** A rule under which the model came to no numbers. */
export interface Broken {
  readonly name: string;
  readonly id: string;
  readonly message: string;
}

export interface Swept {
  readonly rows: Row[];
  readonly broken: Broken[];
  /** Milliseconds of the same call of the first rule, time and again: their spread is the noise of the machine. */
  readonly reference: number[];
}

/**
 * Every combination on all calls of the source, the baseline first. Throws TURNOUT_ABORTED when the signal aborts, and
 * what a layer throws.
 */
export async function sweep(options: SweepOptions): Promise<Swept> {
  const { finished } = options;
  const all = baselineFirst(options);
  const rows: Row[] = [];
  const broken: Broken[] = [];
  const reference: number[] = [];
  for (const [done, combination] of all.entries()) {
    options.onProgress?.(done, all.length, combination.name);
    if (done % LOOK_EVERY === 0) reference.push(await lookAt(options, all[0]!));
    const known = finished?.get(combination.id);
    if (known) {
      rows.push({ ...known, ...describe(combination) });
      continue;
    }
    const row = await runCombination(options, combination, rows[0]?.quality?.sequences);
    if ('message' in row) {
      broken.push(row);
      continue;
    }
    rows.push(row);
    await options.onRow?.(row);
  }
  options.onProgress?.(all.length, all.length, '');
  if (all.length > 0) reference.push(await lookAt(options, all[0]!));
  return { rows, broken, reference };
}

/** What decides as the baseline does is the baseline. */
function baselineFirst({ combinations, baseline }: SweepOptions): Combination[] {
  if (!baseline) return [...combinations];
  const twin = combinations.find(({ id }) => id === baseline.id);
  const names = twin ? [twin.name, ...twin.alsoKnownAs].filter((name) => name !== baseline.name) : [];
  const own = { ...baseline, alsoKnownAs: names, alike: twin?.alike ?? 1 };
  return [own, ...combinations.filter((other) => other !== twin)];
}

async function lookAt({ source, signal }: SweepOptions, combination: Combination): Promise<number> {
  await setImmediate();
  if (signal?.aborted) throw aborted(signal);
  return callMs(await source.run(0, combination, signal));
}

async function runCombination(
  options: SweepOptions,
  combination: Combination,
  bits: BaselineBits | undefined,
): Promise<Row | Broken> {
  try {
    return await measure(options, combination, bits);
  } catch (error) {
    // A model may not bear a swap at all. Where the baseline, or logits alone, are no numbers, nothing is worth a row.
    const swapped = options.source.hasModel && combination.id !== options.baseline?.id;
    if (!swapped || !(error instanceof TurnoutError) || error.code !== 'TURNOUT_LOGITS_INVALID') throw error;
    return { name: combination.name, id: combination.id, message: error.message };
  }
}

async function measure(
  { source, repeats, signal, baseline }: SweepOptions,
  combination: Combination,
  bits: BaselineBits | undefined,
): Promise<Row> {
  const tally = new Tally(source, combination);
  for (let repeat = 0; repeat < repeats; repeat++) {
    for (let call = 0; call < source.calls; call++) {
      // Lets signals in: on made-up logits nothing else waits.
      await setImmediate();
      if (signal?.aborted) throw aborted(signal);
      const run = await source.run(call, combination, signal);
      checkBits(run);
      if (repeat === 0) tally.add(run);
      else tally.addTimes(run);
    }
  }
  return tally.row(baseline && bits);
}

function checkBits({ sequences }: CallRun): void {
  const wrong = sequences.find(({ bits }) => bits !== null && !Number.isFinite(bits));
  if (wrong)
    throw new TurnoutError('TURNOUT_LOGITS_INVALID', `the model gave ${wrong.bits} bits for a sequence`);
}

function aborted(signal: AbortSignal): TurnoutError {
  return new TurnoutError('TURNOUT_ABORTED', 'the sweep was aborted', {}, { cause: signal.reason });
}
