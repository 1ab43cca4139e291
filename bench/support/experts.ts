import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import type { ExpertFile } from '../../src/experts/backend.js';
import { type OnnxGraph, type OnnxNode, type OnnxTensor, writeOnnxFile } from '../../src/model/onnx-write.js';

/** Feed-forward experts with random weights: relu(x W1) W2, or (silu(x W1) * x W3) W2. */
export interface ExpertsSpec {
  /** E */
  readonly experts: number;
  /** H */
  readonly hidden: number;
  /** F */
  readonly inner: number;
  readonly activation: 'relu' | 'swiglu';
  readonly seed?: number;
}

/** w1, w3 [H, F] and w2 [F, H], row-major; w3 only for swiglu. */
interface ExpertWeights {
  readonly w1: Float32Array;
  readonly w2: Float32Array;
  readonly w3?: Float32Array;
}

export interface ExpertSet extends ExpertsSpec {
  readonly files: readonly ExpertFile[];
  readonly weights: readonly ExpertWeights[];
  /** ONNX file x [n, H] -> logits [n, E]. */
  readonly gateFile: string;
  /** [H, E] */
  readonly gate: Float32Array;
}

/** Writes E experts and a gate as ONNX files with external data into `folder`, which is made where absent. */
export async function makeExperts(folder: string, spec: ExpertsSpec): Promise<ExpertSet> {
  await mkdir(folder, { recursive: true });
  const { experts, hidden, inner } = spec;
  const random = normals(spec.seed ?? 1);
  const weights: ExpertWeights[] = [];
  const files: ExpertFile[] = [];
  for (let e = 0; e < experts; e++) {
    const drawn = {
      w1: scaled(random, hidden * inner, hidden),
      w2: scaled(random, inner * hidden, inner),
      ...(spec.activation === 'swiglu' ? { w3: scaled(random, hidden * inner, hidden) } : {}),
    };
    const path = join(folder, `expert-${String(e).padStart(3, '0')}.onnx`);
    await writeOnnxFile(path, expertGraph(spec, drawn));
    weights.push(drawn);
    files.push({ path });
  }
  const gate = scaled(random, hidden * experts, hidden);
  const gateFile = join(folder, 'gate.onnx');
  await writeOnnxFile(gateFile, gateGraph(spec, gate));
  return { ...spec, files, weights, gateFile, gate };
}

/** Expert `e` on the rows x [n, H] -> y [n, H] by plain loops in float64: what every backend is compared with. */
export function referenceExpert(set: ExpertSet, e: number, x: Float32Array): Float64Array {
  const { hidden, inner } = set;
  const { w1, w2, w3 } = set.weights[e]!;
  const rows = x.length / hidden;
  const up = product(x, w1, rows, hidden, inner);
  const gated = w3 && product(x, w3, rows, hidden, inner);
  const active = up.map((v, i) => (gated ? (v / (1 + Math.exp(-v))) * gated[i]! : Math.max(v, 0)));
  return product(active, w2, rows, inner, hidden);
}

/** Standard normal numbers, the same for the same seed. */
export function normals(seed: number): () => number {
  let state = seed >>> 0;
  const uniform = () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
  return () => Math.sqrt(-2 * Math.log(1 - uniform())) * Math.cos(2 * Math.PI * uniform());
}

/** n normal numbers divided by the square root of `fanIn`. */
function scaled(random: () => number, n: number, fanIn: number): Float32Array {
  return Float32Array.from({ length: n }, () => random() / Math.sqrt(fanIn));
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

export function expertGraph(
  { hidden, inner, activation }: ExpertsSpec,
  { w1, w2, w3 }: ExpertWeights,
): OnnxGraph {
  const initializers: OnnxTensor[] = [
    { name: 'w1', dims: [hidden, inner], data: w1 },
    { name: 'w2', dims: [inner, hidden], data: w2 },
  ];
  if (w3) initializers.push({ name: 'w3', dims: [hidden, inner], data: w3 });
  const activate: OnnxNode[] =
    activation === 'relu'
      ? [{ op: 'Relu', inputs: ['up'], outputs: ['active'] }]
      : [
          { op: 'MatMul', inputs: ['x', 'w3'], outputs: ['linear'] },
          { op: 'Sigmoid', inputs: ['up'], outputs: ['sigmoid'] },
          { op: 'Mul', inputs: ['up', 'sigmoid'], outputs: ['silu'] },
          { op: 'Mul', inputs: ['silu', 'linear'], outputs: ['active'] },
        ];
  return {
    inputs: [{ name: 'x', elemType: 'float32', dims: ['n', hidden] }],
    outputs: [{ name: 'y', elemType: 'float32', dims: ['n', hidden] }],
    nodes: [
      { op: 'MatMul', inputs: ['x', 'w1'], outputs: ['up'] },
      ...activate,
      { op: 'MatMul', inputs: ['active', 'w2'], outputs: ['y'] },
    ],
    initializers,
  };
}

function gateGraph({ hidden, experts }: ExpertsSpec, gate: Float32Array): OnnxGraph {
  return {
    inputs: [{ name: 'x', elemType: 'float32', dims: ['n', hidden] }],
    outputs: [{ name: 'logits', elemType: 'float32', dims: ['n', experts] }],
    nodes: [{ op: 'MatMul', inputs: ['x', 'gate'], outputs: ['logits'] }],
    initializers: [{ name: 'gate', dims: [hidden, experts], data: gate }],
  };
}
