import { readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { readOnnx } from '../../src/model/onnx.js';
import { decodeModel, type ProtoNode } from '../../src/model/onnx-proto.js';
import type { ExpertsSpec, ExpertWeights } from '../support/weights.js';

/** An expert file whose graph is relu(x W1) W2, or (silu(x W1) * x W3) W2, in float32. */
export interface KnownExpert {
  readonly activation: ExpertsSpec['activation'];
  /** [outputs of W1] F */
  readonly inner: number;
  weights(): ExpertWeights;
}

/** The weights of a float32 gate x [n, H] -> logits [n, E] that is one product; undefined for other graphs. */
export function knownGate(path: string): Float32Array | undefined {
  const file = readGraph(path);
  const [product, ...others] = file.nodes;
  if (others.length > 0 || product?.opType !== 'MatMul' || product.input[0] !== 'x') return undefined;
  return file.matrix(product.input[1]!)?.data();
}

/** What an expert computes, by its nodes; undefined where it is of no form that rivals can be built of. */
export function knownExpert(path: string): KnownExpert | undefined {
  const { nodes, matrix } = readGraph(path);
  const names = reluNames(nodes) ?? swigluNames(nodes);
  if (!names) return undefined;
  const found = Object.entries(names).map(([name, tensor]) => [name, matrix(tensor)] as const);
  const inner = found[0]![1]?.dims[1];
  if (inner === undefined || found.some(([, tensor]) => !tensor)) return undefined;
  return {
    activation: 'w3' in names ? 'swiglu' : 'relu',
    inner,
    weights: () =>
      Object.fromEntries(found.map(([name, tensor]) => [name, tensor!.data()])) as unknown as ExpertWeights,
  };
}

type Names = Readonly<{ w1: string; w2: string; w3?: string }>;

function reluNames(nodes: readonly ProtoNode[]): Names | undefined {
  const active = nodes.find(({ opType }) => opType === 'Relu');
  const up = active && productTo(nodes, active.input[0]);
  const down = active && productOf(nodes, active.output[0]);
  return nodes.length === 3 && up && down ? { w1: up, w2: down } : undefined;
}

function swigluNames(nodes: readonly ProtoNode[]): Names | undefined {
  const sigmoid = nodes.find(({ opType }) => opType === 'Sigmoid');
  const muls = nodes.filter(({ opType }) => opType === 'Mul');
  if (nodes.length !== 6 || !sigmoid || muls.length !== 2) return undefined;
  const up = sigmoid.input[0]!;
  const silu = muls.find(({ input }) => input.includes(up) && input.includes(sigmoid.output[0]!));
  const active = muls.find((node) => node !== silu && silu && node.input.includes(silu.output[0]!));
  const linear = active?.input.find((name) => name !== silu!.output[0]);
  const [w1, w2, w3] = [productTo(nodes, up), productOf(nodes, active?.output[0]), productTo(nodes, linear)];
  return w1 && w2 && w3 ? { w1, w2, w3 } : undefined;
}

/** The weights of the product of `x` that is named so. */
function productTo(nodes: readonly ProtoNode[], output: string | undefined): string | undefined {
  return nodes.find((node) => node.opType === 'MatMul' && node.input[0] === 'x' && node.output[0] === output)
    ?.input[1];
}

/** The weights that this is multiplied by, to the result `y`. */
function productOf(nodes: readonly ProtoNode[], input: string | undefined): string | undefined {
  return nodes.find((node) => node.opType === 'MatMul' && node.input[0] === input && node.output[0] === 'y')
    ?.input[1];
}

interface StoredMatrix {
  readonly dims: readonly number[];
  data(): Float32Array;
}

/** The nodes of a graph, and its float32 matrices that lie in a file beside it. */
function readGraph(path: string) {
  const bytes = readFileSync(path);
  const { initializers } = readOnnx(bytes, path);
  const matrix = (name: string): StoredMatrix | undefined => {
    const tensor = initializers.find((initializer) => initializer.name === name);
    if (!tensor?.external || tensor.dtype !== 'float32' || tensor.dims.length !== 2) return undefined;
    const { location, offset } = tensor.external;
    const data = () => {
      const file = readFileSync(join(dirname(path), location)).subarray(offset, offset + tensor.bytes);
      return new Float32Array(new Uint8Array(file).buffer);
    };
    return { dims: tensor.dims, data };
  };
  return { nodes: decodeModel(bytes).graph!.node, matrix };
}
