import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import type { BackendName } from '../src/model/open.js';
import { MemoryWatch, MINUTE_MS } from './server/memory-watch.js';
import type { MixedCounts } from './server/mixed-load.js';
import { type ProcessState, processState } from './server/process-stats.js';
import { type LoadChild, type ServerChild, startLoad, startServer } from './server/programs.js';
import { heldOutPrompts } from './server/prompts.js';
import { environment, writeReport } from './support/measure.js';

const PROMPTS = 60;
/** Of the longest answers that are asked for. */
const MOST_TOKENS = 512;
/** Milliseconds of load before anything is compared, and of rest before what is left is counted. */
const WARM_MS = 10_000;
const REST_MS = 3000;
/** The most that memory may grow from the second minute to the last, and what a minute's open connections may differ by. */
const MAX_GROWTH = 0.05;
const FEW = 4;

export interface SoakFigure {
  readonly minutes: readonly ProcessState[];
  /** Without load: before the soak and after it. */
  readonly idle: { readonly before: ProcessState; readonly after: ProcessState };
  readonly heapAfter: { readonly usedBytes: number; readonly collected: boolean };
  readonly load: MixedCounts;
  readonly rssRatio: number;
  readonly problems: readonly string[];
}

/**
 * Mixed load for a while, well-behaved and not: memory, descriptors and threads of the server must stay as they are.
 * `npm run bench -- soak [--minutes 20] [--package experts/babel] [--backend inline] [--node=--expose-gc] [--json file]`
 */
export async function soak(args: readonly string[]): Promise<void> {
  const text = { type: 'string' } as const;
  const options = { minutes: text, package: text, backend: text, node: text, json: text };
  const { values } = parseArgs({ args: [...args], options });
  const minutes = Number(values.minutes ?? 20);
  if (!(minutes >= 3))
    throw new Error('--minutes: expected 3 at least: the second is compared with the last');
  const settings = {
    minutes,
    package: values.package ?? 'experts/babel',
    model: { backend: (values.backend ?? 'inline') as BackendName },
    node: values.node?.split(' ') ?? [],
  };
  const before = environment();
  await using server = await startServer(settings);
  await using load = startLoad();
  const prompts = await heldOutPrompts(settings.package, { count: PROMPTS, tokens: MOST_TOKENS });
  const figure = await soaked({ server, load, prompts }, minutes);
  report(figure);
  const { loadAverage } = environment();
  const all = { bench: 'soak', settings, ...before, loadAverageAfter: loadAverage, figure };
  if (values.json) await writeReport(values.json, all);
  if (figure.problems.length > 0) process.exitCode = 1;
}

interface Parts {
  readonly server: ServerChild;
  readonly load: LoadChild;
  readonly prompts: readonly string[];
}

async function soaked({ server, load, prompts }: Parts, count: number): Promise<SoakFigure> {
  const ask = { url: server.url, prompts };
  await load.ask('startMixed', ask);
  await sleep(WARM_MS);
  await load.ask('stopMixed');
  const idleBefore = await atRest(server);
  await load.ask('startMixed', ask);
  const minutes: ProcessState[] = [];
  using watch = new MemoryWatch(server.pid);
  for (let minute = 0; minute < count; minute++) {
    await sleep(MINUTE_MS);
    minutes.push(watch.medians(minute * MINUTE_MS, (minute + 1) * MINUTE_MS));
    console.log(minuteLine(minute + 1, minutes.at(-1)!, await load.ask('mixedCounts')));
  }
  const counts = await load.ask('stopMixed');
  const idle = { before: idleBefore, after: await atRest(server) };
  const rssRatio = minutes.at(-1)!.rssBytes / minutes[1]!.rssBytes;
  const heapAfter = await server.ask('heap');
  const problems = problemsOf({ minutes, idle, load: counts, rssRatio });
  return { minutes, idle, heapAfter, load: counts, rssRatio, problems };
}

async function atRest({ pid }: ServerChild): Promise<ProcessState> {
  await sleep(REST_MS);
  return processState(pid);
}

function problemsOf({ minutes, idle, load, rssRatio }: Omit<SoakFigure, 'problems' | 'heapAfter'>): string[] {
  const [second, last] = [minutes[1]!, minutes.at(-1)!];
  const problems: string[] = [];
  if (rssRatio > 1 + MAX_GROWTH) problems.push(`memory grew to ${rssRatio.toFixed(3)} of the second minute`);
  for (const key of ['descriptors', 'threads'] as const) {
    const few = key === 'descriptors' ? FEW : 0;
    if (Math.abs(last[key] - second[key]) > few) problems.push(`${key}: ${second[key]}, then ${last[key]}`);
    const { before, after } = idle;
    if (after[key] !== before[key]) problems.push(`${key} at rest: ${before[key]}, then ${after[key]}`);
  }
  if (load.failures > 0) problems.push(`${load.failures} wrong answers: ${load.examples.join('; ')}`);
  return problems;
}

function minuteLine(
  minute: number,
  { rssBytes, descriptors, threads }: ProcessState,
  { done, failures }: MixedCounts,
) {
  const flows = Object.entries(done).map(([name, times]) => `${name} ${times}`);
  const state = `${megabytes(rssBytes)} MB, ${descriptors} descriptors, ${threads} threads`;
  return `minute ${minute}: ${state}; ${flows.join(', ')}; wrong ${failures}`;
}

function report({ rssRatio, idle, heapAfter, problems }: SoakFigure): void {
  const { before, after } = idle;
  console.log(`memory of the last minute: ${rssRatio.toFixed(3)} of the second`);
  console.log(`at rest before and after: ${megabytes(before.rssBytes)} and ${megabytes(after.rssBytes)} MB`);
  const collected = heapAfter.collected
    ? 'after a collection'
    : 'not collected (--node=--expose-gc collects)';
  console.log(`heap of the main thread: ${megabytes(heapAfter.usedBytes)} MB, ${collected}`);
  console.log(problems.length === 0 ? 'verdict: as it was' : `verdict: ${problems.join('\n  ')}`);
}

function megabytes(bytes: number): string {
  return (bytes / 1e6).toFixed(1);
}
