import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { InferenceSession, Tensor } from 'onnxruntime-node';
import { type OnnxNode, writeOnnx } from '../../src/model/onnx-write.js';
import type { Matrix } from '../../src/tensor.js';
import { type ExpertSet, OPSETS } from '../support/experts.js';
import { BLOCK } from '../support/weights.js';
import { writeFusedWeights } from './fused-weights.js';

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

/** Without it QMoE computes some ten times as slowly on a CPU. ONNX Runtime reads it when it makes the operator. */
const FAST_QMOE = 'ORT_USE_MLAS_Q4_GEMM_MOE';

/**
 * Gate and experts of `set` in one graph around com.microsoft.MoE, or QMoE for int4: softmax of the logits, the top k,
 * their weights divided by their sum. One session on `threads` threads, which may spin as ONNX Runtime has it.
 */
export async function openFusedMoe(set: ExpertSet, options: LayerSessionOptions): Promise<LayerSession> {
  process.env[FAST_QMOE] = '1';
  const { folder, k, threads } = options;
  const { hidden, experts, gate } = set;
  const path = join(folder, 'fused.onnx');
  const weights = await writeFusedWeights(join(folder, 'fused.bin'), set);
  await writeFile(
    path,
    writeOnnx({
      inputs: [
        { name: 'x', elemType: 'float32', dims: ['n', hidden] },
        { name: 'bias', elemType: 'float32', dims: [experts] },
      ],
      outputs: [{ name: 'y', elemType: 'float32', dims: ['n', hidden] }],
      nodes: [
        { op: 'MatMul', inputs: ['x', 'gate'], outputs: ['scores'] },
        { op: 'Add', inputs: ['scores', 'bias'], outputs: ['logits'] },
        fusedNode(set, k),
      ],
      initializers: [{ name: 'gate', dims: [hidden, experts], data: gate }, ...weights],
      opsets: OPSETS,
    }),
  );
  return openLayerSession(path, threads);
}

/** silu(gate) * linear is their swiglu with alpha 1, beta 0 and no limit. */
const SWIGLU = {
  activation_type: { string: 'swiglu' },
  swiglu_fusion: { int: 1 },
  activation_alpha: { float: 1 },
  activation_beta: { float: 0 },
};

function fusedNode({ activation, dtype }: ExpertSet, k: number): OnnxNode {
  const packed = dtype === 'int4';
  return {
    op: packed ? 'QMoE' : 'MoE',
    domain: 'com.microsoft',
    inputs: packed
      ? ['x', 'logits', 'fc1', 'fc1.scales', '', 'fc2', 'fc2.scales']
      : ['x', 'logits', 'fc1', '', 'fc2'],
    outputs: ['y'],
    attributes: {
      k: { int: k },
      normalize_routing_weights: { int: 1 },
      ...(activation === 'swiglu' ? SWIGLU : { activation_type: { string: 'relu' } }),
      ...(packed && { expert_weight_bits: { int: 4 }, block_size: { int: BLOCK } }),
    },
  };
}

/** Opens a graph x [n, H], bias [E] -> y [n, H]. */
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
