import { overload } from './server/overload.js';
import { type Part, parseSettings, type Settings } from './server/settings.js';
import { loadTargets, overloadTargets, printTargets, type Target } from './server/targets.js';
import { throughput } from './server/throughput.js';
import { environment, writeReport } from './support/measure.js';

interface Figure {
  readonly figure: unknown;
  readonly targets: readonly Target[];
}

const RUN: Readonly<Record<Part, (settings: Settings) => Promise<Figure>>> = {
  throughput: async (settings) => {
    const figure = await throughput(settings);
    return { figure, targets: loadTargets(figure) };
  },
  overload: async (settings) => {
    const figure = await overload(settings);
    return { figure, targets: overloadTargets(figure) };
  },
};

/**
 * The server over HTTP beside the engine called directly, and what it does under more load than it can bear.
 * `npm run bench -- server [--only throughput,overload] [--clients 1,8,32,128] [--tokens 128] [--rounds 5] [--seconds 6]
 * [--minutes 4] [--package experts/babel] [--backend inline] [--node=--cpu-prof] [--json file]`
 */
export async function server(args: readonly string[]): Promise<void> {
  const { settings, json } = parseSettings(args);
  const before = environment();
  const figures: Partial<Record<Part, unknown>> = {};
  const targets: Target[] = [];
  for (const part of settings.only) {
    const measured = await RUN[part](settings);
    figures[part] = measured.figure;
    targets.push(...measured.targets);
  }
  printTargets(targets);
  const { loadAverage } = environment();
  const report = { bench: 'server', settings, ...before, loadAverageAfter: loadAverage, targets, figures };
  if (json) await writeReport(json, report);
}
