import { measureNoise } from './layer/noise.js';
import { overload } from './server/overload.js';
import { reportOf, type ServerReport, tablesOf } from './server/report.js';
import { parseSettings, type Settings, type Watch } from './server/settings.js';
import { throughput } from './server/throughput.js';
import { environment, writeReport } from './support/measure.js';
import { printTable } from './support/table.js';

/** The server over HTTP beside the engine called directly, and what it does under more load than it can bear. */
export async function benchServer(settings: Settings, watch: Watch = {}): Promise<ServerReport> {
  const [before, noise, began] = [environment(), measureNoise(), performance.now()];
  const has = (part: Settings['only'][number]) => settings.only.includes(part);
  const figures = {
    ...(has('throughput') && { throughput: await throughput(settings, watch) }),
    ...(has('overload') && { overload: await overload(settings, watch) }),
  };
  const seconds = (performance.now() - began) / 1000;
  return reportOf(figures, { settings, before, noise, seconds });
}

/**
 * `npm run bench -- server [--only throughput,overload] [--clients 1,8,32,128] [--tokens 128] [--rounds 5] [--seconds 6]
 * [--minutes 4] [--package experts/babel] [--backend inline] [--node=--cpu-prof] [--json file]`
 */
export async function server(args: readonly string[]): Promise<void> {
  const { settings, json } = parseSettings(args);
  const report = await benchServer(settings);
  for (const { title, rows } of tablesOf(report)) printTable(title, rows);
  if (json) await writeReport(json, report);
}
