import { setImmediate } from 'node:timers/promises';
import { TurnoutError } from '../../src/errors.js';
import type { Combination } from './combinations.js';
import type { BaselineBits } from './quality.js';
import type { Row } from './report-schema.js';
import type { Source } from './source.js';
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

export interface Swept {
  readonly rows: Row[];
  /** Milliseconds of the same call of the first rule, time and again: their spread is the noise of the machine. */
  readonly reference: number[];
}

/**
 * Every combination on all calls of the source, the baseline first. Throws TURNOUT_ABORTED when the signal aborts, and
 * what a layer throws.
 */
export async function sweep(options: SweepOptions): Promise<Swept> {
  const { combinations, baseline, finished } = options;
  const all = baseline
    ? [baseline, ...combinations.filter(({ id }) => id !== baseline.id)]
    : [...combinations];
  const rows: Row[] = [];
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
    rows.push(row);
    await options.onRow?.(row);
  }
  options.onProgress?.(all.length, all.length, '');
  if (all.length > 0) reference.push(await lookAt(options, all[0]!));
  return { rows, reference };
}

async function lookAt({ source, signal }: SweepOptions, combination: Combination): Promise<number> {
  await setImmediate();
  if (signal?.aborted) throw aborted(signal);
  return callMs(await source.run(0, combination, signal));
}

async function runCombination(
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
      if (repeat === 0) tally.add(run);
      else tally.addTimes(run);
    }
  }
  return tally.row(baseline && bits);
}

function aborted(signal: AbortSignal): TurnoutError {
  return new TurnoutError('TURNOUT_ABORTED', 'the sweep was aborted', {}, { cause: signal.reason });
}
