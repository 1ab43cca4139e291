import protobuf from 'protobufjs/light.js';

/*
 * The part of ONNX's protocol buffers that turnout reads and writes (onnx.proto3 of ONNX 1.19; fields that are left
 * out are skipped when reading). Types that may nest (graphs in attributes, functions) are here in full, because the
 * data of a tensor may hide in any of them.
 */

type FieldSpec = readonly [id: number, type: string, rule?: 'repeated'];

function message(fields: Record<string, FieldSpec>): protobuf.IType {
  const entries = Object.entries(fields).map(([name, [id, type, rule]]) => [
    name,
    rule ? { id, type, rule } : { id, type },
  ]);
  return { fields: Object.fromEntries(entries) };
}

const root = protobuf.Root.fromJSON({
  nested: {
    Model: message({
      irVersion: [1, 'int64'],
      producerName: [2, 'string'],
      graph: [7, 'Graph'],
      opsetImport: [8, 'OperatorSet', 'repeated'],
      functions: [25, 'Function', 'repeated'],
    }),
    OperatorSet: message({ domain: [1, 'string'], version: [2, 'int64'] }),
    Graph: message({
      node: [1, 'Node', 'repeated'],
      name: [2, 'string'],
      initializer: [5, 'Tensor', 'repeated'],
      input: [11, 'ValueInfo', 'repeated'],
      output: [12, 'ValueInfo', 'repeated'],
      sparseInitializer: [15, 'SparseTensor', 'repeated'],
    }),
    Function: message({
      name: [1, 'string'],
      node: [7, 'Node', 'repeated'],
      attribute: [11, 'Attribute', 'repeated'],
    }),
    Node: message({
      input: [1, 'string', 'repeated'],
      output: [2, 'string', 'repeated'],
      name: [3, 'string'],
      opType: [4, 'string'],
      attribute: [5, 'Attribute', 'repeated'],
      domain: [7, 'string'],
    }),
    Attribute: message({
      name: [1, 'string'],
      f: [2, 'float'],
      i: [3, 'int64'],
      s: [4, 'bytes'],
      t: [5, 'Tensor'],
      g: [6, 'Graph'],
      floats: [7, 'float', 'repeated'],
      ints: [8, 'int64', 'repeated'],
      tensors: [10, 'Tensor', 'repeated'],
      graphs: [11, 'Graph', 'repeated'],
      type: [20, 'int32'],
      sparseTensor: [22, 'SparseTensor'],
      sparseTensors: [23, 'SparseTensor', 'repeated'],
    }),
    ValueInfo: message({ name: [1, 'string'], type: [2, 'Type'] }),
    Type: message({ tensorType: [1, 'TensorType'] }),
    TensorType: message({ elemType: [1, 'int32'], shape: [2, 'Shape'] }),
    Shape: message({ dim: [1, 'Dim', 'repeated'] }),
    Dim: {
      oneofs: { value: { oneof: ['dimValue', 'dimParam'] } },
      ...message({ dimValue: [1, 'int64'], dimParam: [2, 'string'] }),
    },
    Tensor: message({
      dims: [1, 'int64', 'repeated'],
      dataType: [2, 'int32'],
      name: [8, 'string'],
      rawData: [9, 'bytes'],
      externalData: [13, 'Entry', 'repeated'],
      dataLocation: [14, 'int32'],
    }),
    SparseTensor: message({ values: [1, 'Tensor'], indices: [2, 'Tensor'], dims: [3, 'int64', 'repeated'] }),
    Entry: message({ key: [1, 'string'], value: [2, 'string'] }),
  },
});

/** int64 as protobufjs decodes it: a Long where the number may not fit, a number where nothing was sent. */
export type Int64 = number | { toNumber(): number };

export interface ProtoTensor {
  readonly name: string;
  readonly dims: readonly Int64[];
  readonly dataType: number;
  readonly rawData: Uint8Array;
  readonly externalData: readonly { readonly key: string; readonly value: string }[];
  readonly dataLocation: number;
}
export interface ProtoSparse {
  readonly values?: ProtoTensor | null;
  readonly indices?: ProtoTensor | null;
}
export interface ProtoAttribute {
  readonly t?: ProtoTensor | null;
  readonly g?: ProtoGraph | null;
  readonly tensors: readonly ProtoTensor[];
  readonly graphs: readonly ProtoGraph[];
  readonly sparseTensor?: ProtoSparse | null;
  readonly sparseTensors: readonly ProtoSparse[];
}
export interface ProtoNode {
  readonly opType: string;
  readonly input: readonly string[];
  readonly output: readonly string[];
  readonly attribute: readonly ProtoAttribute[];
}
interface ProtoDim {
  readonly value?: 'dimValue' | 'dimParam';
  readonly dimValue: Int64;
  readonly dimParam: string;
}
export interface ProtoValue {
  readonly name: string;
  readonly type?: {
    readonly tensorType?: {
      readonly elemType: number;
      readonly shape?: { readonly dim: readonly ProtoDim[] } | null;
    } | null;
  } | null;
}
export interface ProtoGraph {
  readonly node: readonly ProtoNode[];
  readonly initializer: readonly ProtoTensor[];
  readonly sparseInitializer: readonly ProtoSparse[];
  readonly input: readonly ProtoValue[];
  readonly output: readonly ProtoValue[];
}
export interface ProtoModel {
  readonly graph?: ProtoGraph | null;
  readonly functions: readonly {
    readonly node: readonly ProtoNode[];
    readonly attribute: readonly ProtoAttribute[];
  }[];
}

const model = root.lookupType('Model');

/** Throws a plain error where the bytes are no protocol buffer of this shape. */
export function decodeModel(bytes: Uint8Array): ProtoModel {
  return model.decode(bytes) as unknown as ProtoModel;
}

/** Encodes a model given with the field names of this schema. */
export function encodeModel(fields: Record<string, unknown>): Uint8Array {
  return model.encode(model.fromObject(fields)).finish();
}
