import { open, writeFile } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { TurnoutError } from '../errors.js';
import type { OnnxPort } from './onnx.js';
import { encodeModel } from './onnx-proto.js';
import { type OnnxType, typeCode } from './onnx-types.js';

/** Memory pages begin at multiples of it, so data that starts there can be mapped by every process. */
const PAGE = 4096;
/** Smaller tensors stay in the ONNX file: shapes and scalars are read when the graph is optimised. */
const MIN_EXTERNAL_BYTES = 1024;

type OnnxAttribute =
  | { readonly int: number }
  | { readonly float: number }
  | { readonly string: string }
  | { readonly ints: readonly number[] };

export interface OnnxNode {
  readonly op: string;
  readonly domain?: string;
  readonly inputs: readonly string[];
  readonly outputs: readonly string[];
  readonly attributes?: Readonly<Record<string, OnnxAttribute>>;
}

interface StoredTensor {
  readonly name: string;
  readonly dims: readonly number[];
  /** The element type follows from the array: float32, float64, int64, int32 or uint8. */
  readonly data: Float32Array | Float64Array | BigInt64Array | Int32Array | Uint8Array;
}

/** A tensor whose bytes lie in a file already: too large for an array, or shared with another graph. */
interface ExternalTensor {
  readonly name: string;
  readonly dims: readonly number[];
  readonly type: OnnxType;
  /** `location` is relative to the folder of the ONNX file; bytes. */
  readonly external: { readonly location: string; readonly offset: number; readonly length: number };
}

export type OnnxTensor = StoredTensor | ExternalTensor;

/** A graph to write. Operator sets: ONNX 17 where `opsets` names none. */
export interface OnnxGraph {
  readonly inputs: readonly OnnxPort[];
  readonly outputs: readonly OnnxPort[];
  readonly nodes: readonly OnnxNode[];
  readonly initializers: readonly OnnxTensor[];
  /** Domain -> version; '' is ONNX's own. */
  readonly opsets?: Readonly<Record<string, number>>;
}

interface Placed {
  readonly location: string;
  /** Tensor name -> byte offset. */
  readonly offsets: ReadonlyMap<string, number>;
}

/**
 * Writes `path`, and its larger tensors page-aligned into a file beside it: the same name with `.bin`.
 * Tensors are little-endian as ONNX says, so this needs a little-endian machine (all that ONNX Runtime runs on).
 */
export async function writeOnnxFile(path: string, graph: OnnxGraph): Promise<void> {
  const location = `${basename(path).replace(/\.onnx$/, '')}.bin`;
  const offsets = new Map<string, number>();
  let end = 0;
  const stored = graph.initializers.filter((tensor) => 'data' in tensor);
  for (const { name, data } of stored) {
    if (data.byteLength < MIN_EXTERNAL_BYTES) continue;
    offsets.set(name, end);
    end += Math.ceil(data.byteLength / PAGE) * PAGE;
  }
  if (offsets.size > 0) {
    const file = await open(join(dirname(path), location), 'w');
    try {
      for (const { name, data } of stored) {
        const offset = offsets.get(name);
        if (offset !== undefined) await file.write(bytesOf(data), 0, data.byteLength, offset);
      }
      await file.truncate(end);
    } finally {
      await file.close();
    }
  }
  await writeFile(path, writeOnnx(graph, { location, offsets }));
}

/** A graph -> the bytes of an ONNX file; tensors that are not `placed` elsewhere lie within it. */
export function writeOnnx(graph: OnnxGraph, placed?: Placed): Uint8Array {
  const opsets = graph.opsets ?? { '': 17 };
  return encodeModel({
    irVersion: 8,
    producerName: 'turnout',
    opsetImport: Object.entries(opsets).map(([domain, version]) => ({ domain, version })),
    graph: {
      name: 'turnout',
      node: graph.nodes.map(encodeNode),
      initializer: graph.initializers.map((tensor) => encodeTensor(tensor, placed)),
      input: graph.inputs.map(encodePort),
      output: graph.outputs.map(encodePort),
    },
  });
}

function encodeNode({ op, domain = '', inputs, outputs, attributes = {} }: OnnxNode): object {
  return {
    opType: op,
    domain,
    input: inputs,
    output: outputs,
    name: `${op}:${outputs[0]}`,
    attribute: Object.entries(attributes).map(([name, value]) => ({ name, ...encodeAttribute(value) })),
  };
}

/** The `type` numbers are ONNX AttributeProto.AttributeType. */
function encodeAttribute(value: OnnxAttribute): object {
  if ('float' in value) return { type: 1, f: value.float };
  if ('int' in value) return { type: 2, i: value.int };
  if ('string' in value) return { type: 3, s: Buffer.from(value.string) };
  return { type: 7, ints: value.ints };
}

function encodeTensor(tensor: OnnxTensor, placed?: Placed): object {
  const { name, dims } = tensor;
  if ('external' in tensor)
    return { ...encodeExternal(tensor.external), name, dims, dataType: typeCode(tensor.type) };
  const { data } = tensor;
  const expected = dims.reduce((product, dim) => product * dim, 1);
  if (expected !== data.length) {
    throw new TurnoutError(
      'TURNOUT_SHAPE_MISMATCH',
      `${name}: expected ${expected} values for [${dims.join(', ')}], got ${data.length}`,
      { name, dims, length: data.length },
    );
  }
  const common = { name, dims, dataType: typeCode(elementType(data)) };
  const offset = placed?.offsets.get(name);
  if (placed === undefined || offset === undefined) return { ...common, rawData: bytesOf(data) };
  return { ...common, ...encodeExternal({ location: placed.location, offset, length: data.byteLength }) };
}

function encodeExternal({ location, offset, length }: ExternalTensor['external']): object {
  const entries = { location, offset: String(offset), length: String(length) };
  return { dataLocation: 1, externalData: Object.entries(entries).map(([key, value]) => ({ key, value })) };
}

function encodePort({ name, elemType, dims }: OnnxPort): object {
  const dim = dims.map((size) => (typeof size === 'number' ? { dimValue: size } : { dimParam: size }));
  return { name, type: { tensorType: { elemType: typeCode(elemType), shape: { dim } } } };
}

function elementType(data: StoredTensor['data']): OnnxType {
  if (data instanceof Float32Array) return 'float32';
  if (data instanceof Float64Array) return 'float64';
  if (data instanceof BigInt64Array) return 'int64';
  return data instanceof Int32Array ? 'int32' : 'uint8';
}

function bytesOf(data: StoredTensor['data']): Uint8Array {
  return new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
}
