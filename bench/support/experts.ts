import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import type { ExpertFile } from '../../src/experts/backend.js';
import { type OnnxGraph, type OnnxNode, type OnnxTensor, writeOnnxFile } from '../../src/model/onnx-write.js';
import {
  type ExpertsSpec,
  type ExpertWeights,
  LEAST_GROUP,
  normals,
  valuesOf,
  weightsOf,
} from './weights.js';

export { type ExpertsSpec, type ExpertWeights, normals } from './weights.js';

/** Feed-forward experts with random weights, and a gate. */
export interface ExpertSet extends ExpertsSpec {
  readonly files: readonly ExpertFile[];
  weightsOf(e: number): ExpertWeights;
  /** ONNX file x [n, H] -> logits [n, E]. */
  readonly gateFile: string;
  /** [H, E] */
  readonly gate: Float32Array;
}

/** Writes E experts and a gate of random weights as ONNX files with external data into `folder`, which is made where absent. */
export async function makeExperts(folder: string, spec: ExpertsSpec): Promise<ExpertSet> {
  const { experts, hidden, seed = 1 } = spec;
  const random = normals(seed + 1);
  const gate = Float32Array.from({ length: hidden * experts }, () => random() / Math.sqrt(hidden));
  return writeExperts(folder, spec, { gate, weightsOf: weightsOf(spec) });
}

/** The same with these weights, an expert at a time. */
export async function writeExperts(
  folder: string,
  spec: ExpertsSpec,
  { gate, weightsOf }: Pick<ExpertSet, 'gate' | 'weightsOf'>,
): Promise<ExpertSet> {
  await mkdir(folder, { recursive: true });
  const files: ExpertFile[] = [];
  for (let e = 0; e < spec.experts; e++) {
    const path = join(folder, `expert-${String(e).padStart(3, '0')}.onnx`);
    await writeOnnxFile(path, expertGraph(spec, weightsOf(e)));
    files.push({ path });
  }
  const gateFile = join(folder, 'gate.onnx');
  await writeOnnxFile(gateFile, gateGraph(spec, gate));
  return { ...spec, files, weightsOf, gateFile, gate };
}

/** Expert `e` on the rows x [n, H] -> y [n, H] by plain loops in float64: what every backend is compared with. */
export function referenceExpert(set: ExpertSet, e: number, x: Float32Array): Float64Array {
  const { hidden, inner } = set;
  const { w1, w2, w3 } = set.weightsOf(e);
  const rows = x.length / hidden;
  const up = product(x, valuesOf(w1), rows, hidden, inner);
  const gated = w3 && product(x, valuesOf(w3), rows, hidden, inner);
  const active = up.map((v, i) => (gated ? (v / (1 + Math.exp(-v))) * gated[i]! : Math.max(v, 0)));
  return product(active, valuesOf(w2), rows, inner, hidden);
}

/** a [n, k] times b [k, m] -> [n, m] */
function product(a: ArrayLike<number>, b: Float32Array, n: number, k: number, m: number): Float64Array {
  const out = new Float64Array(n * m);
  for (let r = 0; r < n; r++) {
    for (let i = 0; i < k; i++) {
      for (let c = 0; c < m; c++) out[r * m + c]! += a[r * k + i]! * b[i * m + c]!;
    }
  }
  return out;
}

export const OPSETS = { '': 17, 'com.microsoft': 1 } as const;

export function expertGraph(spec: ExpertsSpec, weights: ExpertWeights): OnnxGraph {
  const { hidden, dtype } = spec;
  return {
    inputs: [{ name: 'x', elemType: 'float32', dims: ['n', hidden] }],
    outputs: [{ name: 'y', elemType: 'float32', dims: ['n', hidden] }],
    nodes: expertNodes(spec),
    initializers: expertTensors(spec, weights),
    ...(dtype === 'int4' && { opsets: OPSETS }),
  };
}

export function expertTensors({ hidden, inner }: ExpertsSpec, weights: ExpertWeights): OnnxTensor[] {
  const sizes = matrixSizes(hidden, inner);
  return Object.entries(weights).flatMap(([name, matrix]) =>
    tensorsOf(name, sizes[name as keyof typeof sizes], matrix),
  );
}

function matrixSizes(hidden: number, inner: number) {
  return { w1: [hidden, inner], w2: [inner, hidden], w3: [hidden, inner] } as const;
}

/** x -> y by w1, w2 and w3, where all these names but x begin with `prefix`. */
export function expertNodes(
  { hidden, inner, activation, dtype, group }: ExpertsSpec,
  prefix = '',
): OnnxNode[] {
  const sizes = matrixSizes(hidden, inner);
  const own = (name: string) => `${prefix}${name}`;
  const product = (input: string, name: keyof typeof sizes, output: string) =>
    times(input, own(name), own(output), { dtype, group, dims: sizes[name] });
  const activate: OnnxNode[] =
    activation === 'relu'
      ? [{ op: 'Relu', inputs: [own('up')], outputs: [own('active')] }]
      : [product('x', 'w3', 'linear'), ...swiglu(own)];
  return [product('x', 'w1', 'up'), ...activate, product(own('active'), 'w2', 'y')];
}

/** up, linear -> active */
function swiglu(own: (name: string) => string): OnnxNode[] {
  const node = (op: string, inputs: readonly string[], output: string) => ({
    op,
    inputs: inputs.map(own),
    outputs: [own(output)],
  });
  return [
    node('Sigmoid', ['up'], 'sigmoid'),
    node('Mul', ['up', 'sigmoid'], 'silu'),
    node('Mul', ['silu', 'linear'], 'active'),
  ];
}

/** The product of rows with the matrix `name`, [inputs, outputs]; int4 ones round the rows to 8 bits, which is far faster than float32. */
export function times(
  input: string,
  name: string,
  output: string,
  {
    dtype,
    group = LEAST_GROUP,
    dims: [K, N],
  }: {
    readonly dtype: ExpertsSpec['dtype'];
    readonly group: number | undefined;
    readonly dims: readonly [number, number];
  },
): OnnxNode {
  if (dtype !== 'int4') return { op: 'MatMul', inputs: [input, name], outputs: [output] };
  const attributes = { K, N, bits: 4, block_size: group, accuracy_level: 4 };
  return {
    op: 'MatMulNBits',
    domain: 'com.microsoft',
    inputs: [input, name, `${name}.scales`],
    outputs: [output],
    attributes: Object.fromEntries(Object.entries(attributes).map(([key, int]) => [key, { int }])),
  };
}

/** A matrix [inputs, outputs] as the initializers that `times` reads. */
export function tensorsOf(
  name: string,
  dims: readonly [number, number],
  matrix: ExpertWeights['w1'],
): OnnxTensor[] {
  if (matrix instanceof Float32Array) return [{ name, dims, data: matrix }];
  const { group, inputs, outputs, codes, scales } = matrix;
  return [
    { name, dims: [outputs, inputs / group, group / 2], data: codes },
    { name: `${name}.scales`, dims: [outputs, inputs / group], data: scales },
  ];
}

/** x [n, H] -> logits [n, E]; with `bias` [E] added where it is given. */
export function gateGraph(
  { hidden, experts }: Pick<ExpertsSpec, 'hidden' | 'experts'>,
  gate: Float32Array,
  bias?: Float32Array,
): OnnxGraph {
  const scores = bias ? 'scores' : 'logits';
  return {
    inputs: [{ name: 'x', elemType: 'float32', dims: ['n', hidden] }],
    outputs: [{ name: 'logits', elemType: 'float32', dims: ['n', experts] }],
    nodes: [
      { op: 'MatMul', inputs: ['x', 'gate'], outputs: [scores] },
      ...(bias ? [{ op: 'Add', inputs: [scores, 'bias'], outputs: ['logits'] }] : []),
    ],
    initializers: [
      { name: 'gate', dims: [hidden, experts], data: gate },
      ...(bias ? [{ name: 'bias', dims: [experts], data: bias }] : []),
    ],
  };
}
