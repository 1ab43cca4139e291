import { checkSpeedReport, compareSpeed, type SpeedReport } from '../../../bench/support/speed-report.js';
import { drawRows } from '../../../bench/support/table.js';
import { progressLine } from '../packages.js';
import { interruptSignal, parseJson, print, readSource } from '../support.js';
import { checkFolder, writeOut } from './bench-files.js';

/** Flags of commands that measure and report. */
export interface ReportFlags {
  readonly json?: string;
  readonly compare?: string;
}

export interface Watch {
  /** The first Ctrl-C or SIGTERM aborts it. */
  readonly signal: AbortSignal;
  readonly onProgress: (text: string) => void;
}

export interface Reported<R extends SpeedReport> {
  readonly format: string;
  run(watch: Watch): Promise<R>;
  tables(report: R): readonly { title: string; rows: readonly Readonly<Record<string, string | number>>[] }[];
}

/**
 * Runs a bench to its report: progress on a terminal, then tables or JSON, and what changed since an older report.
 * Throws TURNOUT_FILE_MISSING and TURNOUT_INPUT_INVALID for files of `flags`, before anything is measured.
 */
export async function runReport<R extends SpeedReport>(
  { json, compare }: ReportFlags,
  reported: Reported<R>,
): Promise<void> {
  const old =
    compare === undefined
      ? undefined
      : checkSpeedReport(parseJson(await readSource(compare), `--compare ${compare}`), reported.format);
  if (json !== undefined && json !== '-') await checkFolder(json);
  const report = await watched(reported);
  if (!report) return;
  const text = `${JSON.stringify(report, null, 2)}\n`;
  if (json === '-') process.stdout.write(text);
  else {
    for (const { title, rows } of reported.tables(report)) await print(drawRows(title, rows));
    for (const note of report.notes) await print(`note: ${note}`);
    if (json !== undefined) await writeOut(json, text);
  }
  if (!old) return;
  const lines = compareSpeed(old, report).join('\n');
  if (json === '-') process.stderr.write(`${lines}\n`);
  else await print(`\n${lines}`);
}

/** undefined where Ctrl-C or SIGTERM ended it. */
async function watched<R extends SpeedReport>({ run }: Reported<R>): Promise<R | undefined> {
  const signal = interruptSignal();
  const progress = progressLine();
  try {
    return await run({ signal, onProgress: (text) => progress.update(text) });
  } catch (error) {
    if (!signal.aborted) throw error;
    progress.clear();
    process.stderr.write(`Ended by ${signal.reason}.\n`);
    return undefined;
  } finally {
    progress.clear();
  }
}
