/** The element types that models here take and give, as the Open Inference Protocol names them. */
export type Datatype = 'INT64' | 'INT32' | 'FP32' | 'UINT8';

interface TensorData {
  readonly INT64: BigInt64Array;
  readonly INT32: Int32Array;
  readonly FP32: Float32Array;
  readonly UINT8: Uint8Array;
}

/** Row-major values. A tensor of a request owns the whole of its buffer, so that it can be transferred. */
export type Tensor = {
  readonly [D in Datatype]: {
    readonly datatype: D;
    readonly shape: readonly number[];
    readonly data: TensorData[D];
  };
}[Datatype];

export interface TensorSpec {
  readonly name: string;
  readonly datatype: Datatype;
  /** -1 where a dimension is free. */
  readonly shape: readonly number[];
  /** Another shape that is taken too, with fewer dimensions: one sequence instead of a batch. */
  readonly single?: readonly number[];
}

export interface InferCall {
  /** Names of outputs, each once, in the order asked for. */
  readonly outputs: readonly string[];
  readonly timeoutMs?: number;
  /** 1 is the highest, 5 the lowest, 0 the default. */
  readonly priority: number;
  /** Fires when the client goes away. */
  readonly signal: AbortSignal;
}

/** What the endpoints need of a model. `infer` gets checked tensors: every input of `inputs`, in its datatype and a shape that fits. */
export interface ServedModel {
  readonly name: string;
  readonly platform: string;
  readonly inputs: readonly TensorSpec[];
  readonly outputs: readonly TensorSpec[];
  ready(): boolean;
  /** Gives at least the outputs asked for. */
  infer(inputs: ReadonlyMap<string, Tensor>, call: InferCall): Promise<ReadonlyMap<string, Tensor>>;
}

/** Every model has this one version. */
export const MODEL_VERSION = '1';
