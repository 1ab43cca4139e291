import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { memory } from './experts/memory.js';
import { recovery } from './experts/recovery.js';
import { roundTrip } from './experts/round-trip.js';
import { type Bench, type Part, parseSettings, type Settings } from './experts/settings.js';
import { share } from './experts/share.js';
import { startup } from './experts/startup.js';
import { type ExpertSet, makeExperts } from './support/experts.js';
import { environment, writeReport } from './support/measure.js';

const RUN: Readonly<Record<Part, (bench: Bench) => Promise<unknown>>> = {
  roundtrip: roundTrip,
  share,
  memory,
  startup,
  recovery,
};

/**
 * What it costs to run experts elsewhere: round trips, the share of what bare experts give, memory, start and recovery
 * of processes.
 * `npm run bench -- experts [--only roundtrip,share,memory,startup,recovery] [--rounds 9] [--experts 16] [--k 2]
 * [--hidden 1024] [--inner 2048] [--tokens 1,4,16] [--rows 1,4,16] [--processes 1,8,64] [--kills 20] [--json file]`
 */
export async function experts(args: readonly string[]): Promise<void> {
  const { settings, json } = parseSettings(args);
  const folder = await mkdtemp(join(tmpdir(), 'turnout-bench-'));
  try {
    const before = environment();
    const bench = { settings, folder, big: once(() => bigExperts(settings, folder)) };
    const figures: Partial<Record<Part, unknown>> = {};
    for (const part of settings.only) figures[part] = await RUN[part](bench);
    const { loadAverage } = environment();
    const report = { bench: 'experts', settings, ...before, loadAverageAfter: loadAverage, figures };
    if (json) await writeReport(json, report);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

function bigExperts({ experts, hidden, inner }: Settings, folder: string): Promise<ExpertSet> {
  console.log(`\nwriting ${experts} experts [${hidden} x ${inner}]`);
  return makeExperts(join(folder, 'big'), { experts, hidden, inner, activation: 'relu' });
}

function once<T>(make: () => T): () => T {
  let made: { readonly value: T } | undefined;
  return () => {
    made ??= { value: make() };
    return made.value;
  };
}
