import { checkSpeedReport, compareSpeed, type SpeedReport } from '../../../bench/support/speed-report.js';
import { drawRows } from '../../../bench/support/table.js';
import { progressLine } from '../packages.js';
import { EXIT, interruptSignal, parseJson, print, readSource } from '../support.js';
import { checkFolder, writeOut } from './bench-files.js';

/** Flags of commands that measure and report. */
export interface ReportFlags {
  readonly json?: string;
  readonly compare?: string;
}

export interface Watch {
  /** The first Ctrl-C aborts it. */
  readonly signal: AbortSignal;
  readonly onProgress: (done: number, total: number, name: string) => void;
}

export interface Reported {
  readonly format: string;
  run(watch: Watch): Promise<SpeedReport>;
  tables(report: SpeedReport): readonly { title: string; rows: readonly Record<string, string>[] }[];
}

/**
 * Runs a bench to its report: progress on a terminal, then tables or JSON, and what changed since an older report.
 * Throws TURNOUT_FILE_MISSING and TURNOUT_INPUT_INVALID for files of `flags`, before anything is measured.
 */
export async function runReport({ json, compare }: ReportFlags, reported: Reported): Promise<void> {
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

/** undefined where Ctrl-C ended it. */
async function watched({ run }: Reported): Promise<SpeedReport | undefined> {
  const signal = interruptSignal();
  const progress = progressLine();
  const onProgress: Watch['onProgress'] = (done, total, name) =>
    progress.update(`${done} of ${total}  ${name}`);
  try {
    return await run({ signal, onProgress });
  } catch (error) {
    if (!signal.aborted) throw error;
    progress.clear();
    process.stderr.write('Ended by Ctrl-C.\n');
    process.exitCode = EXIT.interrupted;
    return undefined;
  } finally {
    progress.clear();
  }
}
