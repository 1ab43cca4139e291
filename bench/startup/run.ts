import { pagesFor } from '../../src/experts/huge-pages.js';
import { Child } from '../server/child.js';
import { agree } from '../support/cases.js';
import type { Contender } from './contenders.js';
import type { StartupProcess } from './program.js';
import type { FirstCall, Sample } from './task.js';

export interface Reading {
  readonly contender: Contender;
  /** One for each round. */
  readonly samples: Sample[];
}

export interface Readings {
  readonly readings: readonly Reading[];
  /** Who was left out, and why. */
  readonly notes: readonly string[];
}

export interface RunOptions {
  readonly rounds: number;
  readonly first: FirstCall;
  /** Whether all weights are, which are not rounded then. */
  readonly float32: boolean;
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: ((text: string) => void) | undefined;
}

/**
 * Each contender once, to have the files in memory and to compare what they compute; then `rounds` times in turns, in
 * another order each round. Every sample is that of a process of its own.
 */
export async function runAll(all: readonly Contender[], options: RunOptions): Promise<Readings> {
  const { rounds, onProgress, signal } = options;
  const total = all.length * (1 + rounds);
  let done = 0;
  const next = async (contender: Contender) => {
    signal?.throwIfAborted();
    onProgress?.(`${done++} of ${total}  ${contender.name}`);
    return sample(contender, options.first);
  };
  const contenders: Contender[] = [];
  const warm: Sample[] = [];
  const notes: string[] = [];
  for (const contender of all) {
    try {
      warm.push(await next(contender));
      contenders.push(contender);
    } catch (error) {
      // A rival that cannot is a finding.
      if (contender.role !== 'rival' || signal?.aborted) throw error;
      notes.push(
        `${contender.name}, ${contender.residency}: left out, it fails: ${(error as Error).message}`,
      );
    }
  }
  checkEqual(contenders, warm, TOLERANCE[options.float32 ? 'float32' : 'int4']);
  const readings = contenders.map((contender): Reading => ({ contender, samples: [] }));
  for (let round = 0; round < rounds; round++) {
    for (let i = 0; i < readings.length; i++) {
      const { contender, samples } = readings[(i + round) % readings.length]!;
      samples.push(await next(contender));
    }
  }
  return { readings, notes };
}

async function sample({ task, residency }: Contender, first: FirstCall): Promise<Sample> {
  const env = pagesFor(residency ?? 'packed', 'threads');
  await using child = new Child<StartupProcess>(new URL('./program.js', import.meta.url), [], env);
  return await child.ask('sample', { task, first });
}

/** Of the largest output: float32 sums in another order, and the 8 bits of int4 products. */
const TOLERANCE = { float32: 1e-4, int4: 5e-2 } as const;

/** The outputs of one residency have the same bits, those of the others and of the fused operator are close. */
export function checkEqual(
  contenders: readonly Contender[],
  samples: readonly Sample[],
  tolerance: number = TOLERANCE.float32,
): void {
  const expected = new Map<string, Sample>();
  const reference = samples.find(({ outputs }) => outputs.length > 0);
  for (const [i, { name, residency, role, task }] of contenders.entries()) {
    const got = samples[i]!;
    const what = `${name}, ${residency}`;
    const kind = task.kind === 'model' ? 'model' : 'experts';
    const same = expected.get(`${kind}, ${residency}`);
    if (task.kind === 'model' && same && same.text !== got.text)
      throw new Error(`${what}: expected ${JSON.stringify(same.text)}, got ${JSON.stringify(got.text)}`);
    if (role !== 'rival' && (got.outputs.length > 0 || task.kind === 'model'))
      expected.set(`${kind}, ${residency}`, same ?? got);
    for (const [n, y] of got.outputs.entries()) {
      const close = reference!.outputs[n]!;
      const most = close.reduce((largest, value) => Math.max(largest, Math.abs(value)), 0);
      if (most === 0) throw new Error(`${what}: expected outputs that are not all zero`);
      agree(what, y, close, most * tolerance);
      if (role !== 'rival' && same) agree(what, y, same.outputs[n]!, 0);
    }
  }
}
