import { compareReports, drawComparison } from '../../../bench/layer/compare.js';
import { type LayerFlags, optionsOf } from '../../../bench/layer/flags.js';
import { checkReport, type Report } from '../../../bench/layer/report-schema.js';
import { benchLayer } from '../../../bench/layer/run.js';
import { drawShape, LEGEND } from '../../../bench/layer/table.js';
import { progressLine } from '../packages.js';
import { styleOf } from '../render/style.js';
import { interruptSignal, parseJson, print, readSource } from '../support.js';
import { checkFolder, writeOut } from './bench-files.js';

export interface BenchLayerFlags extends LayerFlags {
  readonly json?: string;
  readonly compare?: string;
}

/** What `turnout bench layer` does. */
export async function benchLayerRun(flags: BenchLayerFlags): Promise<void> {
  const { json, compare } = flags;
  const options = await optionsOf(flags);
  const old = compare === undefined ? undefined : await readReport(compare);
  if (json !== undefined && json !== '-') await checkFolder(json);
  const signal = interruptSignal();
  const progress = progressLine();
  const style = styleOf(process.stdout);
  try {
    const report = await benchLayer({
      ...options,
      signal,
      onProgress: (text) => progress.update(text),
      onShape: async (figures) => {
        progress.clear();
        if (json !== '-') await print(`${drawShape(figures, style)}\n`);
      },
    });
    progress.clear();
    await tell(report, json, old);
  } catch (error) {
    progress.clear();
    if (!signal.aborted) throw error;
    process.stderr.write(`Ended by ${signal.reason}.\n`);
  }
}

async function readReport(path: string): Promise<Report> {
  return checkReport(parseJson(await readSource(path), `--compare ${path}`));
}

async function tell(report: Report, json: string | undefined, old: Report | undefined): Promise<void> {
  const text = JSON.stringify(report, null, 2);
  const comparison = old && drawComparison(compareReports(old, report));
  if (json === '-') {
    await print(text);
    if (comparison) process.stderr.write(`${comparison}\n`);
    return;
  }
  if (json !== undefined) await writeOut(json, `${text}\n`);
  const { dim } = styleOf(process.stdout);
  for (const line of [...LEGEND, ...report.notes]) await print(dim(line));
  if (comparison) await print(`\n${comparison}`);
}
