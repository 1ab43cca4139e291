import { writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { readOnnxFile } from '../../src/model/onnx.js';
import { type OnnxNode, type OnnxTensor, writeOnnx } from '../../src/model/onnx-write.js';
import { type ExpertSet, expertNodes, expertTensors, OPSETS } from '../support/experts.js';
import {
  GATE_NODES,
  gateTensor,
  type LayerSession,
  type LayerSessionOptions,
  layerPorts,
  openLayerSession,
} from './layer-session.js';

/**
 * The dense model: all experts compute all rows, and those that the gate did not choose weigh nothing. One session over
 * the files of the experts; its graph is written beside them.
 */
export async function openDenseMoe(set: ExpertSet, options: LayerSessionOptions): Promise<LayerSession> {
  const { k, threads } = options;
  // External data must lie beside the graph, or below.
  const path = join(dirname(set.files[0]!.path), 'dense.onnx');
  const experts = Array.from({ length: set.experts }, (_, e) => e);
  const weights = await Promise.all(experts.map((e) => weightsIn(set, e)));
  const graph = {
    ...layerPorts(set),
    nodes: [
      ...GATE_NODES,
      ...weightNodes(experts),
      ...experts.flatMap((e) => [
        ...expertNodes(set, prefix(e)),
        { op: 'Mul', inputs: [`${prefix(e)}y`, `weight.${e}`], outputs: [`part.${e}`] },
      ]),
      { op: 'Sum', inputs: experts.map((e) => `part.${e}`), outputs: ['y'] },
    ],
    initializers: [
      gateTensor(set),
      { name: 'k', dims: [1], data: BigInt64Array.of(BigInt(k)) },
      { name: 'zero', dims: [], data: Float32Array.of(0) },
      ...weights.flat(),
    ],
    opsets: OPSETS,
  };
  await writeFile(path, writeOnnx(graph));
  return openLayerSession(path, threads);
}

const prefix = (e: number) => `expert.${e}.`;

/** logits [n, E] -> for each expert its weight [n, 1]: softmax over the k largest, zero for the others. */
function weightNodes(experts: readonly number[]): OnnxNode[] {
  return [
    { op: 'TopK', inputs: ['logits', 'k'], outputs: ['best', 'chosen'] },
    { op: 'Softmax', inputs: ['best'], outputs: ['share'] },
    { op: 'Mul', inputs: ['logits', 'zero'], outputs: ['none'] },
    {
      op: 'ScatterElements',
      inputs: ['none', 'chosen', 'share'],
      outputs: ['weights'],
      attributes: { axis: { int: 1 } },
    },
    {
      op: 'Split',
      inputs: ['weights'],
      outputs: experts.map((e) => `weight.${e}`),
      attributes: { axis: { int: 1 } },
    },
  ];
}

/** The tensors of an expert's file, to be read where they are; the smallest lie in the ONNX file itself. */
async function weightsIn(set: ExpertSet, e: number): Promise<OnnxTensor[]> {
  const { initializers } = await readOnnxFile(set.files[e]!.path);
  const inside = initializers.some(({ external }) => !external) ? expertTensors(set, set.weightsOf(e)) : [];
  return initializers.map(({ name, dims, dtype, bytes, external }) => {
    const own = `${prefix(e)}${name}`;
    if (!external) return { ...inside.find((tensor) => tensor.name === name)!, name: own };
    const { location, offset } = external;
    return { name: own, dims, type: dtype, external: { location, offset, length: bytes } };
  });
}
