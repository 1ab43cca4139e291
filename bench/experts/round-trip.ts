import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { ExpertBackend, ExpertBatch } from '../../src/experts/backend.js';
import { wholeBatch } from '../../src/experts/batches.js';
import { openInline } from '../../src/experts/inline.js';
import { openProcesses } from '../../src/experts/processes.js';
import { openThreads } from '../../src/experts/threads.js';
import { agree } from '../support/cases.js';
import { makeExperts, normals } from '../support/experts.js';
import { measure, type Quantiles, quantilesOf } from '../support/measure.js';
import { printTable } from '../support/table.js';
import type { Bench } from './settings.js';

/** F: as good as no computing, so that the carrying is what takes time. Inline is the rest, and is timed beside. */
const INNER = 1;
/** Calls of which the bytes are counted: the fewest of one call are those without anything else that was read. */
const COUNTED = 5;

export interface RoundTripFigure extends Quantiles {
  readonly rows: number;
  readonly hidden: number;
  /** F */
  readonly inner: number;
  readonly backend: ExpertBackend['kind'];
  /** Bytes of x, and as many of y. */
  readonly payloadBytes: number;
  /** What one process reads and writes for one call, frame heads included. Linux only. */
  readonly readBytes?: number;
  readonly writtenBytes?: number;
}

/** One call of n rows [n, H] of one expert on one lane, there and back, gathering included. */
export async function roundTrip({ settings, folder }: Bench): Promise<RoundTripFigure[]> {
  const { hidden, rows, rounds } = settings;
  const { files } = await makeExperts(join(folder, 'thin'), {
    experts: 1,
    hidden,
    inner: INNER,
    activation: 'relu',
  });
  await using inline = await openInline(files);
  await using threads = await openThreads(files, { lanes: 1 });
  await using processes = await openProcesses(files, { devices: ['cpu'] });
  const figures: RoundTripFigure[] = [];
  for (const n of rows) figures.push(...(await compare(n, [inline, threads, processes], rounds)));
  printTable(
    `Round trip of n rows of ${hidden}, one lane, ms: median (p10-p90)`,
    rows.map((n) => tableRow(figures.filter((figure) => figure.rows === n))),
  );
  return figures;
}

async function compare(
  rows: number,
  backends: readonly ExpertBackend[],
  rounds: number,
): Promise<RoundTripFigure[]> {
  const x = Float32Array.from({ length: rows * backends[0]!.hidden }, normals(rows));
  const batches = [wholeBatch(0, x, backends[0]!.hidden)];
  const answers = await Promise.all(backends.map((backend) => backend.run(batches)));
  for (const [i, { outputs }] of answers.entries())
    agree(`n = ${rows}: ${backends[i]!.kind} and inline`, outputs[0]!, answers[0]!.outputs[0]!, 0);
  const contenders = backends.map((backend) => ({
    name: backend.kind,
    run: async () => (await backend.run(batches, { lend: true })).recycle?.(),
  }));
  const samples = await measure(contenders, rounds);
  return Promise.all(
    backends.map(async (backend) => ({
      rows,
      hidden: backend.hidden,
      inner: INNER,
      backend: backend.kind,
      payloadBytes: x.byteLength,
      ...quantilesOf(samples.get(backend.kind)!),
      ...(await bytesOf(backend, batches)),
    })),
  );
}

async function bytesOf(
  backend: ExpertBackend,
  batches: readonly ExpertBatch[],
): Promise<{ readBytes?: number; writtenBytes?: number }> {
  const pid = backend.lanes()[0]!.process?.pid;
  if (pid === undefined || process.platform !== 'linux') return {};
  const calls: { read: number; written: number }[] = [];
  for (let i = 0; i < COUNTED; i++) {
    const before = ioOf(pid);
    await backend.run(batches);
    const after = ioOf(pid);
    calls.push({ read: after.read - before.read, written: after.written - before.written });
  }
  const fewest = (key: 'read' | 'written') => Math.min(...calls.map((call) => call[key]));
  return { readBytes: fewest('read'), writtenBytes: fewest('written') };
}

/** Bytes that a process has read and written, sockets included. */
function ioOf(pid: number): { read: number; written: number } {
  const text = readFileSync(`/proc/${pid}/io`, 'latin1');
  const field = (name: string) => Number(new RegExp(`^${name}: (\\d+)$`, 'm').exec(text)![1]);
  return { read: field('rchar'), written: field('wchar') };
}

function tableRow(figures: readonly RoundTripFigure[]): Record<string, string | number> {
  const times = figures.map(({ backend, medianMs, p10Ms, p90Ms }) => [
    backend,
    `${medianMs.toFixed(3)} (${p10Ms.toFixed(3)}-${p90Ms.toFixed(3)})`,
  ]);
  const { rows, payloadBytes } = figures[0]!;
  const { readBytes = 0, writtenBytes = 0 } = figures.at(-1)!;
  return {
    n: rows,
    ...Object.fromEntries(times),
    'payload bytes': payloadBytes,
    'process reads': readBytes,
    'and writes': writtenBytes,
  };
}
