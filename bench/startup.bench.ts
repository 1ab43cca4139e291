import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { memoryBudget } from './layer/budget.js';
import { measureNoise } from './layer/noise.js';
import { contendersOf, mostCopies } from './startup/contenders.js';
import { type ReportParts, reportOf } from './startup/report.js';
import { type RunOptions, runAll } from './startup/run.js';
import type { StartupSettings } from './startup/settings.js';
import { openSource, type Source } from './startup/source.js';
import { environment } from './support/measure.js';
import type { SpeedReport } from './support/speed-report.js';

/** Experts that are called beside the first, to compare outputs: spread over those of the first layer. */
const COMPARED = 3;

const SPARSE =
  'Each expert has a file of its full length for itself, but a sparse one: a few numbers of its own, and holes that read as zeros.';

export type StartupRun = Pick<RunOptions, 'signal' | 'onProgress'>;

/**
 * How long experts take to open and to answer first, and what memory they take: by backend and residency, beside one
 * session around the fused operator, bare sessions, and reading the bytes. Throws TURNOUT_PACKAGE_*.
 */
export async function startup(settings: StartupSettings, run: StartupRun = {}): Promise<SpeedReport> {
  const before = environment();
  const noise = measureNoise();
  const began = performance.now();
  const folder = await mkdtemp(join(tmpdir(), 'turnout-bench-startup-'));
  try {
    const memoryBytes = memoryBudget();
    const source = await openSource(settings, folder, memoryBytes / mostCopies(settings));
    const { contenders, notes } = await contendersOf(source, settings, memoryBytes);
    const measured = await runAll(contenders, {
      ...run,
      rounds: settings.rounds,
      first: firstCall(source),
      float32: source.float32,
    });
    const seconds = (performance.now() - began) / 1000;
    const parts: ReportParts = {
      source,
      settings,
      notes: [...noteOf(source), ...notes, ...measured.notes],
      before,
      noise,
      seconds,
    };
    return reportOf(measured.readings, parts);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

function firstCall({ hidden, layerExperts }: Source) {
  const others = Array.from(
    { length: COMPARED },
    (_, i) => Math.ceil(((i + 1) * layerExperts) / COMPARED) - 1,
  );
  return { hidden, expert: 0, others: [...new Set(others)] };
}

function noteOf({ made }: Source): string[] {
  if (!made) return [];
  const { shape, asked, sparse } = made;
  const fewer = `scaled down from ${asked.experts} to ${shape.experts} experts to fit into memory`;
  return [...(shape.experts < asked.experts ? [fewer] : []), ...(sparse ? [SPARSE] : [])];
}
