import { writeFile } from 'node:fs/promises';
import { Command, Option } from 'commander';
import { parseAxes, QUICK } from '../../../bench/routing/axes.js';
import { columnOf } from '../../../bench/routing/columns.js';
import { baselineOf, type Combinations, combinationsOf } from '../../../bench/routing/combinations.js';
import { compareReports, drawComparison } from '../../../bench/routing/compare.js';
import { ACTIVATIONS } from '../../../bench/routing/cost.js';
import { hashOf } from '../../../bench/routing/hash.js';
import { drawHtml } from '../../../bench/routing/html.js';
import { inputsHash, reportOf, reportText } from '../../../bench/routing/report.js';
import { checkReport, type Report } from '../../../bench/routing/report-schema.js';
import { openFinished } from '../../../bench/routing/resume.js';
import type { Source } from '../../../bench/routing/source.js';
import { sweep } from '../../../bench/routing/sweep.js';
import { SHAPES } from '../../../bench/routing/synthetic.js';
import { drawTable } from '../../../bench/routing/table.js';
import { environment } from '../../../bench/support/measure.js';
import { TurnoutError } from '../../errors.js';
import { BACKENDS } from '../../model/open.js';
import { progressLine } from '../packages.js';
import { styleOf } from '../render/style.js';
import { EXIT, interruptSignal, numberArgument, parseJson, print, readSource } from '../support.js';
import { type BenchRoutingFlags, checkFlags, openSource } from './bench-source.js';

const EXAMPLES = `
Examples:
  $ turnout bench routing
  $ turnout bench routing --text notes.txt --presets trained,switch,mixtral --sort drop% --html report.html
  $ turnout bench routing --quick --json new.json --compare old.json
  $ turnout bench routing --recording routing.json --factors 1,1.25,none
  $ turnout bench routing --synthetic adversarial --experts 64 --k 8 --tokens 4096

Every rule and preset that fits, with every capacity factor, priority, overflow policy and scope. Combinations that
cannot be are left out, and those that decide alike run once. A text measures quality; a recording (see docs/http.md) and
made-up logits tell loads and drops alone. Rules are swapped in at inference: the figures tell how the model bears the
swap, not what the rule is worth in training.`;

const number = numberArgument;

/** `turnout bench routing`: which rule, at what price. */
export const benchRoutingCommand = new Command('routing')
  .description('Compare routing rules on one model: quality, drops, load, cost and speed side by side.')
  .option('--package <dir>', 'folder of the package; the bundled one where left out')
  .option('--text <file>', 'a text to score; the held-out texts of the package where left out')
  .option('--recording <file>', 'a recording of the server, routed again; - for standard input')
  .addOption(new Option('--synthetic <shape>', 'made-up logits').choices(SHAPES))
  .option('-e, --experts <number>', 'of --synthetic: experts (default 64)', number)
  .option(
    '--tokens <number>',
    'tokens of each domain of a text (default 128), or of --synthetic (4096)',
    number,
  )
  .option('--window <number>', 'most tokens of a sequence (default 128, or 256 of --synthetic)', number)
  .option('--per-call <number>', 'sequences that pass the layers together (default 2)', number)
  .option('--hidden <number>', 'with --inner, for logits alone: hidden size, to tell the cost', number)
  .option('--inner <number>', 'inner size of the experts', number)
  .addOption(new Option('--activation <kind>', 'of those experts').choices(ACTIVATIONS).default('gated'))
  .option('--presets <list>', 'rules: presets, and trained or recorded; all that fit where left out')
  .option('-k, --k <number>', 'choices per token of all rules; their own where left out', number)
  .option('--factors <list>', 'capacity factors; none for dropless (default 1,1.25,1.5,2,none)')
  .option('--priorities <list>', 'who is admitted first: token-major, k-major, batch-prioritised, ...')
  .option('--overflows <list>', 'drop, next-best')
  .option('--scopes <list>', 'request, sequence, call')
  .option('--quick', 'a first look: factors 1.25 and none, token-major, scopes request and sequence')
  .option('--limit <number>', 'combinations at most', number)
  .option('--seed <number>', 'of random rules and made-up logits (default 0)', number)
  .option('--repeats <number>', 'times that each rule runs, for its times (default 1)', number)
  .addOption(new Option('--backend <name>', 'where experts run').choices(BACKENDS).default('inline'))
  .option('--lanes <number>', 'of threads: worker threads', number)
  .option('--sort <column>', 'column of the table (default change, or drop% for logits alone)')
  .option('--rows <number>', 'rows of the table at most; 0 for all', number, 30)
  .option('--json <file>', 'write the report as JSON; - for standard output, instead of the table')
  .option('--html <file>', 'write the report as one HTML file')
  .option('--compare <file>', 'an earlier JSON report: tell what changed')
  .option('--resume <file>', 'keep finished rows in this file, and skip those that are there')
  .addHelpText('after', EXAMPLES)
  .action(benchRouting);

async function benchRouting(flags: BenchRoutingFlags): Promise<void> {
  checkFlags(flags);
  const sort = flags.sort === undefined ? undefined : columnOf(flags.sort);
  const old = flags.compare === undefined ? undefined : await readReport(flags.compare);
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

/** undefined where Ctrl-C ended it. */
async function run(
  source: Source,
  flags: BenchRoutingFlags,
  signal: AbortSignal,
): Promise<Report | undefined> {
  const { k, seed = 0, repeats = 1, backend, lanes } = flags;
  const { all: combinations, ...tried } = choose(source, flags);
  const baseline = baselineOf(source, { k, seed });
  const settings = { k: k ?? null, seed };
  const inputs = inputsHash(source, settings);
  const before = environment();
  const measured = { ...settings, backend, lanes: lanes ?? null, repeats };
  const key = hashOf(inputs, JSON.stringify(measured), before.versions.turnout);
  const finished = flags.resume === undefined ? undefined : await openFinished(flags.resume, key);
  const progress = progressLine();
  const from = performance.now();
  let done = 0;
  try {
    const swept = await sweep({
      source,
      combinations,
      baseline,
      repeats,
      signal,
      ...(finished && { finished: finished.rows, onRow: finished.add }),
      onProgress: (ready, total, name) => {
        done = ready;
        progress.update(progressText({ ready, total, name, ms: performance.now() - from }));
      },
    });
    const seconds = (performance.now() - from) / 1000;
    return reportOf(swept, {
      source,
      inputs,
      settings: measured,
      baselineId: baseline?.id,
      before,
      sweep: tried,
      seconds,
    });
  } catch (error) {
    if (!signal.aborted) throw error;
    progress.clear();
    const kept = flags.resume === undefined ? '; --resume would keep them' : `, kept in ${flags.resume}`;
    process.stderr.write(`Ended by Ctrl-C after ${done} rows${kept}.\n`);
    process.exitCode = EXIT.interrupted;
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

async function writeOut(path: string, text: string): Promise<void> {
  await writeFile(path, text).catch((cause: Error) => {
    const message = `cannot write ${path}: ${cause.message}`;
    throw new TurnoutError('TURNOUT_FILE_MISSING', message, { path }, { cause });
  });
}
