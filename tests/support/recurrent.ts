import { createHash } from 'node:crypto';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type OnnxGraph, writeOnnxFile } from '#turnout/model/onnx-write.js';
import { makeExperts, normals } from './experts.js';

const H = 8;
const E = 4;
const V = 257;

/**
 * A byte-level package whose trunk runs sequence by sequence, with a state that is replaced: x is the running sum of the
 * embeddings of all tokens so far.
 */
export async function makeRecurrentPackage(folder: string): Promise<void> {
  const random = normals(5);
  const weights = (rows: number, cols: number) => Float32Array.from({ length: rows * cols }, random);
  await makeExperts(join(folder, 'layer'), { experts: E, hidden: H, inner: 8, activation: 'relu' });
  await writeOnnxFile(join(folder, 'embed.onnx'), embed(weights(V, H)));
  await writeOnnxFile(join(folder, 'sum.onnx'), runningSum());
  await writeOnnxFile(join(folder, 'head.onnx'), head(weights(H, V)));
  const files = readdirSync(folder, { recursive: true, encoding: 'utf8' }).filter((file) =>
    /\.(onnx|bin)$/.test(file),
  );
  writeFileSync(join(folder, 'manifest.json'), JSON.stringify(manifest(folder, files)));
}

function manifest(folder: string, files: readonly string[]) {
  const step = (model: string, domain: string, inputs: object, outputs: object) => ({
    kind: 'graph',
    domain,
    model,
    inputs,
    outputs,
  });
  return {
    format: 'turnout-package',
    version: 1,
    name: 'recurrent',
    license: 'MIT',
    sizes: {
      hidden: H,
      layers: 1,
      experts: E,
      choices: 2,
      inner: 8,
      vocabulary: V,
      context: 64,
      parameters: { total: 1, active: 1 },
    },
    tokenizer: { type: 'bytes', begin: 256, end: 256 },
    layers: [
      {
        name: 'only',
        gate: { model: 'layer/gate.onnx' },
        router: { preset: 'mixtral', options: { admit: { factor: 1 } } },
        experts: Array.from({ length: E }, (_, e) => ({ model: `layer/expert-00${e}.onnx` })),
      },
    ],
    program: {
      inputs: { ids: 'ids', positions: 'positions', select: 'select' },
      outputs: { logits: 'logits' },
      states: [{ name: 'sum', kind: 'replace', input: 'past', output: 'present', initial: [1, H] }],
      steps: [
        step('embed.onnx', 'rows', { ids: 'ids' }, { x: 'e' }),
        { ...step('sum.onnx', 'sequence', { x: 'e' }, { y: 'x' }), state: 'sum' },
        { kind: 'moe', layer: 0, input: 'x', output: 'y' },
        step('head.onnx', 'rows', { y: 'y', select: 'select' }, { logits: 'logits' }),
      ],
    },
    files: Object.fromEntries(
      files.map((file) => {
        const data = readFileSync(join(folder, file));
        return [file, { bytes: data.length, sha256: createHash('sha256').update(data).digest('hex') }];
      }),
    ),
  };
}

const port = (name: string, dims: (string | number)[], elemType: 'float32' | 'int64' = 'float32') => ({
  name,
  dims,
  elemType,
});

function embed(table: Float32Array): OnnxGraph {
  return {
    inputs: [port('ids', ['n'], 'int64')],
    outputs: [port('x', ['n', H])],
    nodes: [{ op: 'Gather', inputs: ['table', 'ids'], outputs: ['x'] }],
    initializers: [{ name: 'table', dims: [V, H], data: table }],
  };
}

function runningSum(): OnnxGraph {
  return {
    inputs: [port('x', ['n', H]), port('past', [1, H])],
    outputs: [port('y', ['n', H]), port('present', [1, H])],
    nodes: [
      { op: 'CumSum', inputs: ['x', 'rows'], outputs: ['sums'] },
      { op: 'Add', inputs: ['sums', 'past'], outputs: ['y'] },
      { op: 'ReduceSum', inputs: ['x', 'axes'], outputs: ['total'], attributes: { keepdims: { int: 1 } } },
      { op: 'Add', inputs: ['past', 'total'], outputs: ['present'] },
    ],
    initializers: [
      { name: 'rows', dims: [], data: BigInt64Array.of(0n) },
      { name: 'axes', dims: [1], data: BigInt64Array.of(0n) },
    ],
  };
}

function head(weights: Float32Array): OnnxGraph {
  return {
    inputs: [port('y', ['n', H]), port('select', ['m'], 'int64')],
    outputs: [port('logits', ['m', V])],
    nodes: [
      { op: 'Gather', inputs: ['y', 'select'], outputs: ['chosen'] },
      { op: 'MatMul', inputs: ['chosen', 'w'], outputs: ['logits'] },
    ],
    initializers: [{ name: 'w', dims: [H, V], data: weights }],
  };
}
