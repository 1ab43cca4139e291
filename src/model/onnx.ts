import { open } from 'node:fs/promises';
import { TurnoutError } from '../errors.js';
import {
  decodeModel,
  type Int64,
  type ProtoAttribute,
  type ProtoGraph,
  type ProtoModel,
  type ProtoSparse,
  type ProtoTensor,
  type ProtoValue,
} from './onnx-proto.js';
import { DATA_TYPES, type OnnxType } from './onnx-types.js';

/** Bounds on what an ONNX file may claim, checked before anything is allocated from it. */
export const ONNX_LIMITS = {
  /** Protocol buffers end at 2 GiB; larger models keep their weights in external data. */
  MAX_FILE_BYTES: 2 ** 31 - 1,
  /** ONNX Runtime's kernels stop far below; every shape loop is bounded by it. */
  MAX_RANK: 32,
  /** Beyond the address space of today's machines; keeps byte counts exact in a double. */
  MAX_TENSOR_BYTES: 2 ** 48,
  /** Graphs inside attributes of nodes inside graphs: exporters nest two or three deep. */
  MAX_GRAPH_DEPTH: 16,
} as const;

/** An input or output of a graph. A dimension is a number, or a name where it is known only when run ('?' where unnamed). */
export interface OnnxPort {
  readonly name: string;
  readonly elemType: OnnxType;
  readonly dims: readonly (number | string)[];
}

/** Where the data of a tensor lies outside the ONNX file, as the file claims it: `location` is not checked here. */
interface ExternalData {
  readonly location: string;
  /** Bytes; 0 where the file names none. */
  readonly offset: number;
  readonly length?: number;
}

interface OnnxTensorInfo {
  readonly name: string;
  readonly dims: readonly number[];
  readonly dtype: OnnxType;
  /** Bytes that the shape needs. */
  readonly bytes: number;
  readonly external?: ExternalData;
}

/** What an ONNX file holds, without its weights. */
export interface OnnxSummary {
  readonly inputs: readonly OnnxPort[];
  readonly outputs: readonly OnnxPort[];
  /** Every stored tensor, wherever it is: initializers, constants, and those of nested graphs and functions. */
  readonly initializers: readonly OnnxTensorInfo[];
  /** Elements of all stored floating-point tensors. */
  readonly parameters: number;
}

/** Reads an ONNX file of at most MAX_FILE_BYTES. Throws TURNOUT_FILE_MISSING or TURNOUT_PACKAGE_FILE_INVALID. */
export async function readOnnxFile(path: string): Promise<OnnxSummary> {
  return readOnnx(await readOnnxBytes(path), path);
}

/** The bytes of such a file, for those who also sum them. */
export async function readOnnxBytes(path: string): Promise<Buffer> {
  const file = await open(path).catch((cause) => {
    throw new TurnoutError(
      'TURNOUT_FILE_MISSING',
      `expected an ONNX file at ${path}`,
      { file: path },
      { cause },
    );
  });
  try {
    const { size } = await file.stat();
    if (size > ONNX_LIMITS.MAX_FILE_BYTES) throw tooLarge(path, size);
    return await file.readFile();
  } finally {
    await file.close();
  }
}

/** ONNX bytes -> what they hold. `file` is only named in errors. Throws TURNOUT_PACKAGE_FILE_INVALID. */
export function readOnnx(bytes: Uint8Array, file = 'model'): OnnxSummary {
  if (bytes.length > ONNX_LIMITS.MAX_FILE_BYTES) throw tooLarge(file, bytes.length);
  let model: ProtoModel;
  try {
    model = decodeModel(bytes);
  } catch (cause) {
    throw new TurnoutError('TURNOUT_PACKAGE_FILE_INVALID', `${file}: not an ONNX file`, { file }, { cause });
  }
  if (!model.graph) throw invalid(file, 'expected an ONNX model with a graph, got none');
  const initializers = tensorsOf(model, file).map((tensor) => describe(tensor, file));
  return {
    inputs: ports(model.graph.input, model.graph, file),
    outputs: ports(model.graph.output, undefined, file),
    initializers,
    parameters: initializers.reduce(
      (sum, { dtype, dims }) => sum + (dtype.includes('float') ? elements(dims) : 0),
      0,
    ),
  };
}

/** Every tensor with data that the model holds, in file order. */
function tensorsOf(model: ProtoModel, file: string): ProtoTensor[] {
  const found: ProtoTensor[] = [];
  const sparse = (tensor: ProtoSparse) => {
    for (const part of [tensor.values, tensor.indices]) if (part) found.push(part);
  };
  const attribute = (entry: ProtoAttribute, depth: number) => {
    if (entry.t) found.push(entry.t);
    found.push(...entry.tensors);
    if (entry.sparseTensor) sparse(entry.sparseTensor);
    for (const tensor of entry.sparseTensors) sparse(tensor);
    for (const nested of entry.g ? [entry.g, ...entry.graphs] : entry.graphs) graph(nested, depth + 1);
  };
  const graph = (nested: ProtoGraph, depth: number) => {
    if (depth > ONNX_LIMITS.MAX_GRAPH_DEPTH) {
      throw invalid(file, `graphs nested deeper than ${ONNX_LIMITS.MAX_GRAPH_DEPTH}`);
    }
    found.push(...nested.initializer);
    for (const tensor of nested.sparseInitializer) sparse(tensor);
    for (const node of nested.node) for (const entry of node.attribute) attribute(entry, depth);
  };
  graph(model.graph!, 0);
  for (const body of model.functions) {
    for (const entry of body.attribute) attribute(entry, 0);
    for (const node of body.node) for (const entry of node.attribute) attribute(entry, 0);
  }
  return found;
}

function describe(tensor: ProtoTensor, file: string): OnnxTensorInfo {
  const { name } = tensor;
  const [dtype, bits] = elementType(tensor.dataType, file, name);
  if (tensor.dims.length > ONNX_LIMITS.MAX_RANK) {
    throw invalid(
      file,
      `${name}: expected at most ${ONNX_LIMITS.MAX_RANK} dimensions, got ${tensor.dims.length}`,
    );
  }
  const dims = tensor.dims.map((dim) => size(dim, file, name));
  const bytes = Math.ceil((elements(dims) * bits) / 8);
  if (bytes > ONNX_LIMITS.MAX_TENSOR_BYTES) {
    throw invalid(file, `${name}: [${dims.join(', ')}] is more than ${ONNX_LIMITS.MAX_TENSOR_BYTES} bytes`);
  }
  const raw = tensor.rawData.length;
  if (raw > 0 && raw !== bytes) {
    throw invalid(file, `${name}: [${dims.join(', ')}] ${dtype} needs ${bytes} bytes, it has ${raw}`);
  }
  const external = externalData(tensor, file);
  return external ? { name, dims, dtype, bytes, external } : { name, dims, dtype, bytes };
}

const EXTERNAL = 1;

function externalData(tensor: ProtoTensor, file: string): ExternalData | undefined {
  if (tensor.dataLocation !== EXTERNAL && tensor.externalData.length === 0) return undefined;
  const entries = new Map<string, string>();
  for (const { key, value } of tensor.externalData) {
    if (entries.has(key)) throw invalid(file, `${tensor.name}: external data names ${key} twice`);
    entries.set(key, value);
  }
  const location = entries.get('location');
  if (!location) throw invalid(file, `${tensor.name}: expected external data with a location, got none`);
  const offset = byteCount(entries.get('offset') ?? '0', file, `${tensor.name}: offset`);
  const length = entries.get('length');
  return length === undefined
    ? { location, offset }
    : { location, offset, length: byteCount(length, file, `${tensor.name}: length`) };
}

function byteCount(text: string, file: string, what: string): number {
  const value = Number(text);
  if (!/^\d+$/.test(text) || value > ONNX_LIMITS.MAX_TENSOR_BYTES) {
    throw invalid(
      file,
      `${what} of external data: expected bytes up to ${ONNX_LIMITS.MAX_TENSOR_BYTES}, got ${JSON.stringify(text)}`,
    );
  }
  return value;
}

/** Tensor inputs or outputs; inputs that only name an initializer (IR versions before 4) are left out. */
function ports(values: readonly ProtoValue[], graph: ProtoGraph | undefined, file: string): OnnxPort[] {
  const stored = new Set(graph?.initializer.map(({ name }) => name));
  return values
    .filter(({ name }) => !stored.has(name))
    .map((value) => {
      const tensor = value.type?.tensorType;
      if (!tensor) throw invalid(file, `${value.name}: expected a tensor, got another kind of value`);
      const dims = (tensor.shape?.dim ?? []).map((dim) =>
        dim.value === 'dimValue' ? size(dim.dimValue, file, value.name) : dim.dimParam || '?',
      );
      return { name: value.name, elemType: elementType(tensor.elemType, file, value.name)[0], dims };
    });
}

function elementType(code: number, file: string, name: string): (typeof DATA_TYPES)[number] {
  const found = DATA_TYPES[code - 1];
  if (!found)
    throw invalid(file, `${name}: expected an element type from 1 to ${DATA_TYPES.length}, got ${code}`);
  return found;
}

function size(dim: Int64, file: string, name: string): number {
  const value = typeof dim === 'number' ? dim : dim.toNumber();
  if (value < 0 || value > ONNX_LIMITS.MAX_TENSOR_BYTES) {
    throw invalid(
      file,
      `${name}: expected dimensions from 0 to ${ONNX_LIMITS.MAX_TENSOR_BYTES}, got ${value}`,
    );
  }
  return value;
}

function elements(dims: readonly number[]): number {
  return dims.reduce((product, dim) => product * dim, 1);
}

function invalid(file: string, problem: string): TurnoutError {
  return new TurnoutError('TURNOUT_PACKAGE_FILE_INVALID', `${file}: ${problem}`, { file });
}

function tooLarge(file: string, bytes: number): TurnoutError {
  return invalid(file, `expected at most ${ONNX_LIMITS.MAX_FILE_BYTES} bytes, got ${bytes}`);
}
