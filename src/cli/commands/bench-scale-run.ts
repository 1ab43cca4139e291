import { availableParallelism } from 'node:os';
import { FORMAT, tableRows } from '../../../bench/scale/report.js';
import { type ScaleFlags, settingsOf } from '../../../bench/scale/settings.js';
import { scale } from '../../../bench/scale.bench.js';
import { type ReportFlags, runReport } from './bench-report.js';

/** What `turnout bench scale` does. */
export async function benchScale(flags: ScaleFlags & ReportFlags): Promise<void> {
  const settings = settingsOf(flags, availableParallelism());
  await runReport(flags, {
    format: FORMAT,
    run: (watch) => scale(settings, watch),
    tables: (report) => [{ title: String(report.source.name), rows: tableRows(report) }],
  });
}
