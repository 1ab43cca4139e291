import { type FileHandle, open } from 'node:fs/promises';
import { basename } from 'node:path';
import type { OnnxTensor } from '../../src/model/onnx-write.js';
import type { ExpertSet } from '../support/experts.js';
import { type ExpertsSpec, type ExpertWeights, type Int4Matrix, LEAST_GROUP } from '../support/weights.js';

/** What is stacked. */
export type Stacked = ExpertsSpec & Pick<ExpertSet, 'weightsOf'>;

type Matrix = ExpertWeights['w1'];
/** Rows of one expert's part of a stacked tensor, one for each output. */
type Part = (weights: ExpertWeights) => Float32Array | Uint8Array;

/**
 * The weights of all experts stacked as the fused operators take them, written to `path` expert by expert:
 * fc1 [E, F, H] (swiglu: [E, 2F, H], the row of W1 before that of W3), fc2 [E, H, F], and for int4 their scales.
 */
export async function writeFusedWeights(path: string, set: Stacked): Promise<OnnxTensor[]> {
  const { experts, hidden, inner, activation, dtype, group = LEAST_GROUP } = set;
  const up = activation === 'swiglu' ? 2 * inner : inner;
  const fc1 = ({ w1, w3 }: ExpertWeights) => rowsOf(w1, hidden, w3);
  const fc2 = ({ w2 }: ExpertWeights) => rowsOf(w2, inner);
  const file = await open(path, 'w');
  try {
    const stack = new Stack(file, basename(path), set);
    if (dtype !== 'int4') {
      return [
        await stack.add('fc1', 'float32', [experts, up, hidden], (weights) => fc1(weights).values),
        await stack.add('fc2', 'float32', [experts, hidden, inner], (weights) => fc2(weights).values),
      ];
    }
    return [
      await stack.add('fc1', 'uint8', [experts, up, hidden / 2], (weights) => fc1(weights).values),
      await stack.add('fc1.scales', 'float32', [experts, up, hidden / group], (w) => fc1(w).scales!),
      await stack.add('fc2', 'uint8', [experts, hidden, inner / 2], (weights) => fc2(weights).values),
      await stack.add('fc2.scales', 'float32', [experts, hidden, inner / group], (w) => fc2(w).scales!),
    ];
  } finally {
    await file.close();
  }
}

class Stack {
  #end = 0;

  constructor(
    private readonly file: FileHandle,
    private readonly location: string,
    private readonly set: Stacked,
  ) {}

  async add(
    name: string,
    type: 'float32' | 'uint8',
    dims: readonly number[],
    part: Part,
  ): Promise<OnnxTensor> {
    const offset = this.#end;
    let length = 0;
    for (let e = 0; e < this.set.experts; e++) {
      const { buffer, byteOffset, byteLength } = part(this.set.weightsOf(e));
      await this.file.write(new Uint8Array(buffer, byteOffset, byteLength), 0, byteLength, offset + length);
      length += byteLength;
    }
    this.#end = Math.ceil((offset + length) / 4096) * 4096;
    return { name, dims, type, external: { location: this.location, offset, length } };
  }
}

interface Rows {
  readonly values: Float32Array | Uint8Array;
  readonly scales?: Float32Array;
}

/** A matrix with a row for each output; with `other`, rows of both in turns. */
function rowsOf(matrix: Matrix, inputs: number, other?: Matrix): Rows {
  const [first, second] = [rows(matrix, inputs), other && rows(other, inputs)];
  if (!second) return first;
  const outputs = matrix instanceof Float32Array ? matrix.length / inputs : matrix.outputs;
  return {
    values: inTurns(first.values, second.values, outputs),
    ...(first.scales && { scales: inTurns(first.scales, second.scales!, outputs) }),
  };
}

function rows(matrix: Float32Array | Int4Matrix, inputs: number): Rows {
  if (!(matrix instanceof Float32Array)) return { values: matrix.codes, scales: matrix.scales };
  return { values: transposed(matrix, inputs, matrix.length / inputs) };
}

function inTurns<A extends Float32Array | Uint8Array>(first: A, second: A, count: number): A {
  const out = first.constructor as new (length: number) => A;
  const mixed = new out(2 * first.length);
  const size = first.length / count;
  for (let r = 0; r < count; r++) {
    mixed.set(first.subarray(r * size, (r + 1) * size), 2 * r * size);
    mixed.set(second.subarray(r * size, (r + 1) * size), (2 * r + 1) * size);
  }
  return mixed;
}

/** Cache lines of both matrices stay in the cache within a tile of this many rows and columns. */
const TILE = 32;

/** [rows, cols] -> [cols, rows] */
export function transposed(matrix: Float32Array, rows: number, cols: number): Float32Array {
  const out = new Float32Array(matrix.length);
  for (let r0 = 0; r0 < rows; r0 += TILE) {
    for (let c0 = 0; c0 < cols; c0 += TILE) {
      for (let r = r0; r < Math.min(rows, r0 + TILE); r++)
        for (let c = c0; c < Math.min(cols, c0 + TILE); c++) out[c * rows + r] = matrix[r * cols + c]!;
    }
  }
  return out;
}
