import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { contendersOf } from './startup/contenders.js';
import { type ReportParts, reportOf } from './startup/report.js';
import { type RunOptions, runAll } from './startup/run.js';
import type { StartupSettings } from './startup/settings.js';
import { openSource, type Source } from './startup/source.js';
import { environment } from './support/measure.js';
import { availableMemory } from './support/memory.js';
import type { SpeedReport } from './support/speed-report.js';

/** Of the memory that could be had: the rest is for what else runs here. */
const SHARE = 0.6;
/** Experts that are called beside the first, to compare outputs: spread over those of the first layer. */
const COMPARED = 3;

export type StartupRun = Pick<RunOptions, 'signal' | 'onProgress'>;

/**
 * How long experts take to open and to answer first, and what memory they take: by backend and residency, beside one
 * session around the fused operator, bare sessions, and reading the bytes. Throws TURNOUT_PACKAGE_*.
 */
export async function startup(settings: StartupSettings, run: StartupRun = {}): Promise<SpeedReport> {
  const before = environment();
  const began = performance.now();
  const folder = await mkdtemp(join(tmpdir(), 'turnout-bench-startup-'));
  try {
    const source = await openSource(settings, folder);
    const memoryBytes = SHARE * availableMemory();
    const { contenders, notes } = await contendersOf(source, settings, { memoryBytes });
    const readings = await runAll(contenders, { ...run, rounds: settings.rounds, first: firstCall(source) });
    const seconds = (performance.now() - began) / 1000;
    const parts: ReportParts = { source, settings, notes: [...noteOf(source), ...notes], before, seconds };
    return reportOf(readings, parts);
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
  if (!made?.sparse) return [];
  return [
    'Each expert has a file of its full length for itself, but a sparse one: a few numbers of its own, and holes that read as zeros.',
  ];
}
