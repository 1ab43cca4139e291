import { readFileSync } from 'node:fs';
import { mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { ExpertFile } from '../../src/experts/backend.js';
import { writeOnnxFile } from '../../src/model/onnx-write.js';
import { type BareCall, openBareExperts } from '../peers/bare-experts.js';
import { openProduct } from '../peers/product-session.js';
import { OPSETS, tensorsOf, times } from '../support/experts.js';
import { type ExpertWeights, squares } from '../support/weights.js';
import type { LayerShape } from './shapes.js';

/** What this machine can do at best, by measurement. */
export interface Machine {
  /** Of the last cache. */
  readonly cacheBytes: number;
  /** Bytes a second: weights in memory, read by products with a single row. */
  readonly bandwidthGBs: { readonly one: number; readonly all: number };
  /** Operations a second: a large product. */
  readonly peakGflops: { readonly one: number; readonly all: number };
}

export function bandwidthOf({ bandwidthGBs }: Machine, lanes: 'one' | 'all'): number {
  return bandwidthGBs[lanes];
}

export function peakOf({ peakGflops }: Machine, lanes: 'one' | 'all'): number {
  return peakGflops[lanes];
}

/** The better of two measurements in each figure: what disturbs the machine only ever makes it look slower. */
export function bestOf(before: Machine | undefined, now: Machine): Machine {
  if (!before) return now;
  const best = (key: 'bandwidthGBs' | 'peakGflops') => ({
    one: Math.max(before[key].one, now[key].one),
    all: Math.max(before[key].all, now[key].all),
  });
  return { cacheBytes: now.cacheBytes, bandwidthGBs: best('bandwidthGBs'), peakGflops: best('peakGflops') };
}

/** Inputs and outputs of the square matrices. */
const SIDE = 2048;
const SQUARE_BYTES = 4 * SIDE * SIDE;
/** The matrices together are this many times the last cache, so that none is in it when its turn comes. */
const TIMES_CACHE = 4;
/** Each figure is the best run within this time: the others were disturbed. */
const MEASURE_MS = 300;
const LEAST_TRIES = 5;
const PEAK_ROWS = 256;

type Weights = Pick<LayerShape, 'dtype' | 'group'>;

/** Measures the bandwidth of memory and the peak of products with weights of this type, with one core and with `lanes`. */
export async function measureMachine(folder: string, lanes: number, weights: Weights): Promise<Machine> {
  const home = join(folder, 'machine');
  await mkdir(home, { recursive: true });
  const cacheBytes = lastCache();
  const count = Math.max(2 * lanes, Math.ceil((TIMES_CACHE * cacheBytes) / SQUARE_BYTES));
  const float32: Weights = { dtype: 'float32' };
  const draw = squares(float32, SIDE);
  const files: ExpertFile[] = [];
  for (let i = 0; i < count; i++)
    files.push(await writeSquare(join(home, `square-${i}.onnx`), float32, draw(i)));
  const bandwidthGBs = await measureBandwidth(files, lanes);
  const square = await writeSquare(join(home, 'peak.onnx'), weights, squares(weights, SIDE)(0));
  const one = await measurePeak(square.path, 1);
  const all = lanes === 1 ? one : await measurePeak(square.path, lanes);
  await rm(home, { recursive: true });
  return { cacheBytes, bandwidthGBs, peakGflops: { one, all: Math.max(one, all) } };
}

async function writeSquare(
  path: string,
  { dtype, group }: Weights,
  matrix: ExpertWeights['w1'],
): Promise<ExpertFile> {
  const port = (name: string) => ({ name, elemType: 'float32', dims: ['n', SIDE] }) as const;
  await writeOnnxFile(path, {
    inputs: [port('x')],
    outputs: [port('y')],
    nodes: [times('x', 'w', 'y', { dtype, group, dims: [SIDE, SIDE] })],
    initializers: tensorsOf('w', [SIDE, SIDE], matrix),
    opsets: OPSETS,
  });
  return { path };
}

/** Each lane reads matrices of its own. GB/s. */
async function measureBandwidth(
  files: readonly ExpertFile[],
  lanes: number,
): Promise<Machine['bandwidthGBs']> {
  await using bare = await openBareExperts(files, lanes, 'mapped');
  const x = new Float32Array(SIDE).fill(0.5);
  const calls: BareCall[] = files.map((_, expert) => ({ expert, x }));
  const indexes = calls.map((_, i) => i);
  const queue = (lane: number) => indexes.filter((i) => i % lanes === lane);
  const idle = Array.from({ length: lanes - 1 }, () => []);
  bare.load([
    { calls, queues: [indexes, ...idle] },
    { calls, queues: Array.from({ length: lanes }, (_, lane) => queue(lane)) },
  ]);
  const bytes = files.length * SQUARE_BYTES;
  const one = bytes / (await bestMs(() => bare.run(0))) / 1e6;
  const all = bytes / (await bestMs(() => bare.run(1))) / 1e6;
  return { one, all: Math.max(one, all) };
}

/** Milliseconds of the best of all runs in a while. */
async function bestMs(run: () => unknown): Promise<number> {
  let best = Number.POSITIVE_INFINITY;
  const until = performance.now() + MEASURE_MS;
  for (let tries = 0; tries < LEAST_TRIES || performance.now() < until; tries++) {
    const started = performance.now();
    await run();
    best = Math.min(best, performance.now() - started);
  }
  return best;
}

async function measurePeak(path: string, threads: number): Promise<number> {
  const product = await openProduct(path, { rows: PEAK_ROWS, hidden: SIDE, threads });
  const ms = await bestMs(() => product.run());
  await product.release();
  return (2 * PEAK_ROWS * SIDE * SIDE) / ms / 1e6;
}

const DEFAULT_CACHE = 32 * 2 ** 20;

/** Bytes of the last cache of the first core; 32 MiB where the system does not tell. */
export function lastCache(): number {
  for (const index of [3, 2]) {
    try {
      const text = readFileSync(`/sys/devices/system/cpu/cpu0/cache/index${index}/size`, 'utf8');
      const kib = /^(\d+)K/.exec(text)?.[1];
      if (kib !== undefined) return 1024 * Number(kib);
    } catch {}
  }
  return DEFAULT_CACHE;
}
