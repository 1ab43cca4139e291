import { join } from 'node:path';
import { InferenceSession, Tensor } from 'onnxruntime-node';
import { writeOnnxFile } from '../../src/model/onnx-write.js';
import type { Matrix } from '../../src/tensor.js';

/** ONNX Runtime's own Softmax and TopK in one graph, on one thread. */
export interface SoftmaxTopK {
  /** logits [T, E] -> the k largest probabilities of each row and their columns [T * k], best first. */
  run(logits: Matrix): Promise<{ weights: Float32Array; experts: BigInt64Array }>;
  release(): Promise<void>;
}

export async function openSoftmaxTopK(folder: string, experts: number, k: number): Promise<SoftmaxTopK> {
  const path = join(folder, 'softmax-top-k.onnx');
  await writeOnnxFile(path, {
    inputs: [{ name: 'logits', elemType: 'float32', dims: ['n', experts] }],
    outputs: [
      { name: 'weights', elemType: 'float32', dims: ['n', k] },
      { name: 'experts', elemType: 'int64', dims: ['n', k] },
    ],
    nodes: [
      { op: 'Softmax', inputs: ['logits'], outputs: ['scores'], attributes: { axis: { int: -1 } } },
      { op: 'TopK', inputs: ['scores', 'k'], outputs: ['weights', 'experts'] },
    ],
    initializers: [{ name: 'k', dims: [1], data: BigInt64Array.of(BigInt(k)) }],
  });
  const session = await InferenceSession.create(path, {
    intraOpNumThreads: 1,
    executionMode: 'sequential',
  });
  return {
    async run({ rows, cols, data }) {
      const outputs = await session.run({ logits: new Tensor('float32', data, [rows, cols]) });
      return {
        weights: outputs.weights!.data as Float32Array,
        experts: outputs.experts!.data as BigInt64Array,
      };
    },
    release: () => session.release(),
  };
}
