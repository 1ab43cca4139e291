import { parseAxes, QUICK } from '../../../bench/routing/axes.js';
import { columnOf } from '../../../bench/routing/columns.js';
import { baselineOf, type Combinations, combinationsOf } from '../../../bench/routing/combinations.js';
import { compareReports, drawComparison } from '../../../bench/routing/compare.js';
import { hashOf } from '../../../bench/routing/hash.js';
import { drawHtml } from '../../../bench/routing/html.js';
import { inputsHash, reportOf, reportText } from '../../../bench/routing/report.js';
import { checkReport, type Report } from '../../../bench/routing/report-schema.js';
import { openFinished } from '../../../bench/routing/resume.js';
import type { Source } from '../../../bench/routing/source.js';
import { type SweepOptions, type Swept, sweep } from '../../../bench/routing/sweep.js';
import { drawTable } from '../../../bench/routing/table.js';
import { environment } from '../../../bench/support/measure.js';
import { TurnoutError } from '../../errors.js';
import { progressLine } from '../packages.js';
import { styleOf } from '../render/style.js';
import { interruptSignal, parseJson, print, readSource } from '../support.js';
import { checkFolder, writeOut } from './bench-files.js';
import { type BenchRoutingFlags, checkFlags, openSource } from './bench-source.js';

/** What `turnout bench routing` does. */
export async function benchRouting(flags: BenchRoutingFlags): Promise<void> {
  checkFlags(flags);
  const sort = flags.sort === undefined ? undefined : columnOf(flags.sort);
  const old = flags.compare === undefined ? undefined : await readReport(flags.compare);
  for (const path of [flags.json, flags.html])
    if (path !== undefined && path !== '-') await checkFolder(path);
  const signal = interruptSignal();
  const source = await openSource(flags);
  try {
    const report = await run(source, flags, signal);
    if (report) await tell(report, { flags, old, sort: sort ?? columnOf(defaultSort(report)) });
  } finally {
    await source.close();
  }
}

function defaultSort({ rows }: Report): string {
  return rows.some(({ quality }) => quality !== null) ? 'change' : 'drop%';
}

async function readReport(path: string): Promise<Report> {
  return checkReport(parseJson(await readSource(path), `--compare ${path}`));
}

/** undefined where Ctrl-C or SIGTERM ended it. */
async function run(
  source: Source,
  flags: BenchRoutingFlags,
  signal: AbortSignal,
): Promise<Report | undefined> {
  const { k, seed = 0, repeats = 1, backend, lanes } = flags;
  const { all: combinations, ...tried } = choose(source, flags);
  const baseline = baselineOf(source, { k, seed });
  const inputs = inputsHash(source, { k: k ?? null, seed });
  const before = environment();
  const settings = { k: k ?? null, seed, backend, lanes: lanes ?? null, repeats };
  const key = hashOf(inputs, JSON.stringify(settings), before.versions.turnout);
  const finished = flags.resume === undefined ? undefined : await openFinished(flags.resume, key);
  const from = performance.now();
  const resumed = finished && { finished: finished.rows, onRow: finished.add };
  const swept = await watched({ source, combinations, baseline, repeats, signal, ...resumed }, flags);
  if (!swept) return undefined;
  const seconds = (performance.now() - from) / 1000;
  return reportOf(swept, {
    source,
    inputs,
    settings,
    baselineId: baseline?.id,
    before,
    sweep: tried,
    seconds,
  });
}

/** Sweeps, and says on the terminal how far it is; undefined where Ctrl-C or SIGTERM ended it. */
async function watched(options: SweepOptions, { resume }: BenchRoutingFlags): Promise<Swept | undefined> {
  const progress = progressLine();
  const from = performance.now();
  let done = 0;
  const onProgress = (ready: number, total: number, name: string) => {
    done = ready;
    progress.update(progressText({ ready, total, name, ms: performance.now() - from }));
  };
  try {
    return await sweep({ ...options, onProgress });
  } catch (error) {
    if (!options.signal?.aborted) throw error;
    progress.clear();
    const kept = resume === undefined ? '; --resume would keep them' : `, kept in ${resume}`;
    process.stderr.write(`Ended by ${options.signal.reason} after ${done} rows${kept}.\n`);
    return undefined;
  } finally {
    progress.clear();
  }
}

function choose(source: Source, flags: BenchRoutingFlags): Combinations {
  const { k, seed = 0, quick, limit, presets, factors, priorities, overflows, scopes } = flags;
  const own = Object.entries({ presets, factors, priorities, overflows, scopes });
  const given = Object.fromEntries(own.filter(([, value]) => value !== undefined));
  const axes = parseAxes({ ...(quick && QUICK), ...given }, source.baseline?.name);
  const found = combinationsOf(source, axes, { k, seed });
  if (found.all.length > 0) return { ...found, all: found.all.slice(0, limit) };
  const experts = source.layers[0]!.experts;
  const message = `no rule of ${axes.rules.join(', ')} fits ${experts} experts with these options`;
  throw new TurnoutError('TURNOUT_OPTIONS_INVALID', message, { experts, rules: axes.rules });
}

function progressText(at: { ready: number; total: number; name: string; ms: number }): string {
  const { ready, total, name, ms } = at;
  const left = ready < 3 ? '' : `, about ${Math.ceil(((total - ready) * ms) / ready / 1000)} s left`;
  return `${ready} of ${total} rules${left}  ${name}`;
}

interface Told {
  readonly flags: BenchRoutingFlags;
  readonly old: Report | undefined;
  readonly sort: ReturnType<typeof columnOf>;
}

async function tell(report: Report, { flags: { json, html, rows }, old, sort }: Told): Promise<void> {
  const text = reportText(report);
  if (html !== undefined) await writeOut(html, drawHtml(report, sort));
  if (json !== undefined && json !== '-') await writeOut(json, `${text}\n`);
  const comparison = old && drawComparison(compareReports(old, report));
  if (json === '-') {
    await print(text);
    if (comparison) process.stderr.write(`${comparison}\n`);
    return;
  }
  const { bold, dim } = styleOf(process.stdout);
  await print(drawTable(report, { sort, rows: rows === 0 ? Number.POSITIVE_INFINITY : rows, bold, dim }));
  if (comparison) await print(`\n${comparison}`);
}
