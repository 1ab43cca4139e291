import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type OnnxTensor, writeOnnx } from '../../src/model/onnx-write.js';
import { fusedNode } from '../peers/fused-moe.js';
import { type Stacked, writeFusedWeights } from '../peers/fused-weights.js';
import { OPSETS } from '../support/experts.js';
import type { ExpertsSpec } from '../support/weights.js';

/** One ONNX file for each layer, with the fused operator over all of its experts. */
export interface FusedFiles {
  readonly files: readonly string[];
  /** In all of them. */
  readonly experts: number;
  /** E of the first. */
  readonly layerExperts: number;
}

/** Writes the same weights anew, as the operator has them. */
export async function writeFused(folder: string, layers: readonly Stacked[]): Promise<FusedFiles> {
  const files: string[] = [];
  for (const [i, layer] of layers.entries()) {
    const weights = await writeFusedWeights(join(folder, `fused-${i}.bin`), layer);
    files.push(await writeFusedGraph(join(folder, `fused-${i}.onnx`), layer, weights));
  }
  const experts = layers.reduce((sum, layer) => sum + layer.experts, 0);
  return { files, experts, layerExperts: layers[0]!.experts };
}

/** x [n, H], logits [n, E] -> y [n, H]: that of the expert with the largest logit alone. */
export async function writeFusedGraph(
  path: string,
  spec: ExpertsSpec,
  weights: readonly OnnxTensor[],
): Promise<string> {
  const rows = (name: string, cols: number) => ({ name, elemType: 'float32', dims: ['n', cols] }) as const;
  const graph = writeOnnx({
    inputs: [rows('x', spec.hidden), rows('logits', spec.experts)],
    outputs: [rows('y', spec.hidden)],
    nodes: [fusedNode(spec, 1)],
    initializers: weights,
    opsets: OPSETS,
  });
  await writeFile(path, graph);
  return path;
}
