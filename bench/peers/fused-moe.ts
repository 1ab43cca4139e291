import { join } from 'node:path';
import { InferenceSession, Tensor } from 'onnxruntime-node';
import { writeOnnxFile } from '../../src/model/onnx-write.js';
import type { Matrix } from '../../src/tensor.js';
import type { ExpertSet } from '../support/experts.js';

/** A whole layer in ONNX Runtime's fused operator. */
export interface FusedMoe {
  /** x [T, H], logits [T, E] -> y [T, H] */
  run(x: Matrix, logits: Matrix): Promise<Float32Array>;
  release(): Promise<void>;
}

/**
 * The experts of `set` (relu) in one com.microsoft.MoE node, which takes the softmax of the logits, the top k and their
 * weights divided by their sum, on `threads` threads.
 */
export async function openFusedMoe(
  folder: string,
  set: ExpertSet,
  k: number,
  threads: number,
): Promise<FusedMoe> {
  const { experts, hidden, inner, weights } = set;
  const path = join(folder, 'fused.onnx');
  const float = (name: string, cols: number) => ({ name, elemType: 'float32', dims: ['n', cols] }) as const;
  await writeOnnxFile(path, {
    inputs: [float('x', hidden), float('logits', experts)],
    outputs: [float('y', hidden)],
    nodes: [
      {
        op: 'MoE',
        domain: 'com.microsoft',
        inputs: ['x', 'logits', 'fc1', '', 'fc2'],
        outputs: ['y'],
        attributes: {
          k: { int: k },
          activation_type: { string: 'relu' },
          normalize_routing_weights: { int: 1 },
        },
      },
    ],
    initializers: [
      {
        name: 'fc1',
        dims: [experts, inner, hidden],
        data: transposed(
          weights.map(({ w1 }) => w1),
          hidden,
          inner,
        ),
      },
      {
        name: 'fc2',
        dims: [experts, hidden, inner],
        data: transposed(
          weights.map(({ w2 }) => w2),
          inner,
          hidden,
        ),
      },
    ],
    opsets: { '': 17, 'com.microsoft': 1 },
  });
  const session = await InferenceSession.create(path, {
    intraOpNumThreads: threads,
    executionMode: 'sequential',
  });
  return {
    async run(x, logits) {
      const tensor = ({ rows, cols, data }: Matrix) => new Tensor('float32', data, [rows, cols]);
      const { y } = await session.run({ x: tensor(x), logits: tensor(logits) });
      return y!.data as Float32Array;
    },
    release: () => session.release(),
  };
}

/** E matrices [rows, cols] -> [E, cols, rows] */
function transposed(matrices: readonly Float32Array[], rows: number, cols: number): Float32Array {
  const out = new Float32Array(matrices.length * rows * cols);
  for (const [e, m] of matrices.entries()) {
    const first = e * rows * cols;
    for (let r = 0; r < rows; r++)
      for (let c = 0; c < cols; c++) out[first + c * rows + r] = m[r * cols + c]!;
  }
  return out;
}
