import { join } from 'node:path';
import type { ExpertFile } from '../../src/experts/backend.js';
import { openGate } from '../../src/gate.js';
import { writeOnnxFile } from '../../src/model/onnx-write.js';
import { createRouter } from '../../src/router/create.js';
import { presetOptions } from '../../src/router/presets.js';
import type { Router } from '../../src/router/routing.js';
import { type Matrix, matrix, row } from '../../src/tensor.js';
import { type ExpertSet, gateGraph, makeExperts } from '../support/experts.js';
import { normals } from '../support/weights.js';
import { LOADS, type Load } from './names.js';
import type { LayerShape } from './shapes.js';

/** A layer on disk, and what is known of it. */
export interface LayerSource {
  readonly shape: LayerShape;
  readonly files: readonly ExpertFile[];
  readonly router: Router;
  /** x [n, H] -> logits [n, E]; the same for both loads where no bias can be put into it. */
  readonly gates: Readonly<Record<Load, GateFile>>;
  /** Absent for experts of a form that is not known: rivals cannot be built of them then. */
  readonly set?: ExpertSet;
  /** What is not as in the package that it comes from. */
  readonly notes?: readonly string[];
}

export interface GateFile {
  readonly path: string;
  /** [E], what it adds to the scores. */
  readonly bias: Float32Array;
}

/** One call of a layer. */
export interface LayerCase {
  readonly load: Load;
  readonly tokens: number;
  /** [T, H] */
  readonly x: Matrix;
  /** [T, E] what the gate says to `x`. */
  readonly logits: Matrix;
  /** [E] of the gate. */
  readonly bias: Float32Array;
}

/** The rule of all synthetic layers is that of the fused operators: softmax of the logits, top k, divided by the sum of the chosen. */
export function routerOf({ experts, k }: LayerShape): Router {
  return createRouter(presetOptions('mixtral', { select: { k } }), experts);
}

/** Writes a layer of random weights into `folder`. */
export async function makeSource(folder: string, shape: LayerShape, seed: number): Promise<LayerSource> {
  const set = await makeExperts(folder, { ...shape, seed });
  return {
    shape,
    files: set.files,
    router: routerOf(shape),
    gates: await writeGates(folder, set, shape, seed),
    set,
  };
}

/** Two gates over the matrix of `set`, which differ in the bias of the first expert. */
export async function writeGates(
  folder: string,
  set: Pick<ExpertSet, 'hidden' | 'experts' | 'gate'>,
  shape: LayerShape,
  seed: number,
): Promise<LayerSource['gates']> {
  const even = await writeGate(folder, set, { load: 'even', bias: new Float32Array(shape.experts) });
  const bias = new Float32Array(shape.experts);
  bias[0] = await skewingBias(even.path, shape, seed);
  return { even, skewed: await writeGate(folder, set, { load: 'skewed', bias }) };
}

async function writeGate(
  folder: string,
  set: Pick<ExpertSet, 'hidden' | 'experts' | 'gate'>,
  { load, bias }: { readonly load: Load; readonly bias: Float32Array },
): Promise<GateFile> {
  const path = join(folder, `gate-${load}.onnx`);
  await writeOnnxFile(path, gateGraph(set, set.gate, bias));
  return { path, bias };
}

const SAMPLE = 512;

/** What the first expert lacks, in the median of some random rows, to be among the k chosen. */
async function skewingBias(gate: string, shape: LayerShape, seed: number): Promise<number> {
  const { experts, k, hidden } = shape;
  if (k >= experts) return 0;
  const { logits } = await scored(gate, shape, randomRows(SAMPLE, hidden, normals(seed + 2)));
  const lacking = Array.from({ length: SAMPLE }, (_, t) => {
    const [first, ...others] = row(logits, t);
    return others.sort((a, b) => b - a)[k - 1]! - first!;
  });
  return lacking.sort((a, b) => a - b)[SAMPLE / 2]!;
}

function randomRows(rows: number, cols: number, random: () => number): Matrix {
  return matrix(Float32Array.from({ length: rows * cols }, random), rows, cols);
}

async function scored(path: string, { hidden, experts }: LayerShape, x: Matrix): Promise<{ logits: Matrix }> {
  const gate = await openGate(path, hidden, experts);
  try {
    return await gate.score(x);
  } finally {
    await gate.close();
  }
}

/** Logits that are nearer than this may change places where another kernel sums in another order. */
const TIE = 1e-4;
const MOST_DRAWS = 20;

/** The call for these tokens: the same for the same source and seed. Rows whose k-th choice hangs on rounding are drawn anew. */
export async function makeCase(
  { shape, gates }: LayerSource,
  { load, tokens, seed }: { readonly load: Load; readonly tokens: number; readonly seed: number },
): Promise<LayerCase> {
  const { path, bias } = gates[load];
  const random = normals(seed + 3 + 7919 * tokens + LOADS.indexOf(load));
  const x = randomRows(tokens, shape.hidden, random);
  for (let draw = 0; ; draw++) {
    const { logits } = await scored(path, shape, x);
    const close = closeRows(logits, shape.k);
    if (close.length === 0 || draw === MOST_DRAWS) return { load, tokens, x, logits, bias };
    for (const t of close) row(x, t).set(Float32Array.from({ length: shape.hidden }, random));
  }
}

function closeRows(logits: Matrix, k: number): number[] {
  if (k >= logits.cols) return [];
  return Array.from({ length: logits.rows }, (_, t) => t).filter((t) => {
    const sorted = row(logits, t).toSorted((a, b) => b - a);
    return sorted[k - 1]! - sorted[k]! < TIE;
  });
}
