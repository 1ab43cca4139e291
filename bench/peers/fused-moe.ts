import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type OnnxNode, writeOnnx } from '../../src/model/onnx-write.js';
import { type ExpertSet, OPSETS } from '../support/experts.js';
import { type ExpertsSpec, LEAST_GROUP } from '../support/weights.js';
import { writeFusedWeights } from './fused-weights.js';
import {
  GATE_NODES,
  gateTensor,
  type LayerSession,
  type LayerSessionOptions,
  layerPorts,
  openLayerSession,
} from './layer-session.js';

/** Without it QMoE computes some ten times as slowly on a CPU. ONNX Runtime reads it when it makes the operator. */
export const FAST_QMOE = 'ORT_USE_MLAS_Q4_GEMM_MOE';

/**
 * Gate and experts of `set` in one graph around com.microsoft.MoE, or QMoE for int4: softmax of the logits, the top k,
 * their weights divided by their sum. One session on `threads` threads, which may spin as ONNX Runtime has it.
 */
export async function openFusedMoe(set: ExpertSet, options: LayerSessionOptions): Promise<LayerSession> {
  process.env[FAST_QMOE] = '1';
  const { folder, k, threads } = options;
  const path = join(folder, 'fused.onnx');
  const weights = await writeFusedWeights(join(folder, 'fused.bin'), set);
  await writeFile(
    path,
    writeOnnx({
      ...layerPorts(set),
      nodes: [...GATE_NODES, fusedNode(set, k)],
      initializers: [gateTensor(set), ...weights],
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

export function fusedNode({ activation, dtype, group = LEAST_GROUP }: ExpertsSpec, k: number): OnnxNode {
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
      ...(packed && { expert_weight_bits: { int: 4 }, block_size: { int: group } }),
    },
  };
}
