import { InferenceSession, Tensor } from 'onnxruntime-node';
import type { OnnxGraph, OnnxNode, OnnxTensor } from '../../src/model/onnx-write.js';
import type { Matrix } from '../../src/tensor.js';
import type { ExpertSet } from '../support/experts.js';

/** A whole layer in one session. */
export interface LayerSession {
  /** x [T, H], bias [E] of the gate -> y [T, H] */
  run(x: Matrix, bias: Float32Array): Promise<Float32Array>;
  release(): Promise<void>;
}

export interface LayerSessionOptions {
  /** For its files. */
  readonly folder: string;
  readonly k: number;
  readonly threads: number;
}

/** x [n, H], bias [E] -> y [n, H] */
export function layerPorts({ hidden, experts }: ExpertSet): Pick<OnnxGraph, 'inputs' | 'outputs'> {
  const rows = (name: string) => ({ name, elemType: 'float32', dims: ['n', hidden] }) as const;
  return {
    inputs: [rows('x'), { name: 'bias', elemType: 'float32', dims: [experts] }],
    outputs: [rows('y')],
  };
}

/** x, gate, bias -> logits [n, E] */
export const GATE_NODES: readonly OnnxNode[] = [
  { op: 'MatMul', inputs: ['x', 'gate'], outputs: ['scores'] },
  { op: 'Add', inputs: ['scores', 'bias'], outputs: ['logits'] },
];

export function gateTensor({ hidden, experts, gate }: ExpertSet): OnnxTensor {
  return { name: 'gate', dims: [hidden, experts], data: gate };
}

/** Opens such a graph on `threads` threads, which may spin as ONNX Runtime has it. */
export async function openLayerSession(path: string, threads: number): Promise<LayerSession> {
  const session = await InferenceSession.create(path, {
    intraOpNumThreads: threads,
    executionMode: 'sequential',
  });
  return {
    async run({ rows, cols, data }, bias) {
      const feeds = {
        x: new Tensor('float32', data, [rows, cols]),
        bias: new Tensor('float32', bias, [bias.length]),
      };
      const { y } = await session.run(feeds);
      return y!.data as Float32Array;
    },
    release: () => session.release(),
  };
}
