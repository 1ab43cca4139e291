import { availableParallelism } from 'node:os';
import { FORMAT, tableRows } from '../../../bench/startup/report.js';
import { type StartupFlags, settingsOf } from '../../../bench/startup/settings.js';
import { startup } from '../../../bench/startup.bench.js';
import { BUNDLED } from '../packages.js';
import { type ReportFlags, runReport } from './bench-report.js';

/** What `turnout bench startup` does. */
export async function benchStartup(flags: StartupFlags & ReportFlags): Promise<void> {
  const settings = settingsOf(flags, BUNDLED, availableParallelism());
  await runReport(flags, {
    format: FORMAT,
    run: (watch) => startup(settings, watch),
    tables: (report) => [{ title: String(report.source.name), rows: tableRows(report) }],
  });
}
