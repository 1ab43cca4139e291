import { TurnoutError } from '../../errors.js';
import { shown } from '../../schema.js';
import type { Datatype, Tensor } from './served-model.js';

/** Every element type of the Open Inference Protocol; models here have four of them. */
const PROTOCOL_DATATYPES: ReadonlySet<string> = new Set([
  ...['BOOL', 'UINT8', 'UINT16', 'UINT32', 'UINT64', 'INT8', 'INT16', 'INT32', 'INT64'],
  ...['FP16', 'FP32', 'FP64', 'BF16', 'BYTES'],
]);

interface DatatypeRules {
  readonly bytes: number;
  /** What a JSON number must be, for messages. */
  readonly range: string;
  readonly fits: (value: number) => boolean;
}

const RULES: Readonly<Record<Datatype, DatatypeRules>> = {
  // JSON numbers are doubles here: larger integers would arrive as their neighbours.
  INT64: {
    bytes: 8,
    range: 'a whole number within 2^53 - 1 (larger ones as binary data)',
    fits: Number.isSafeInteger,
  },
  INT32: { bytes: 4, range: 'a whole number from -2^31 to 2^31 - 1', fits: (value) => (value | 0) === value },
  FP32: {
    bytes: 4,
    range: 'a number within the range of float32',
    fits: (value) => Number.isFinite(Math.fround(value)),
  },
  UINT8: { bytes: 1, range: 'a whole number from 0 to 255', fits: (value) => (value & 255) === value },
};

/** Bytes of one value. */
export function bytesOf(datatype: Datatype): number {
  return RULES[datatype].bytes;
}

/** Throws TURNOUT_INPUT_INVALID unless a tensor has the datatype of its model: nothing is converted in silence. */
export function checkDatatype(got: string, expected: Datatype, what: string): void {
  if (got === expected) return;
  const known = PROTOCOL_DATATYPES.has(got);
  const kind = known ? `${got}, which is not converted` : `${shown(got)}, which is no datatype`;
  throw new TurnoutError('TURNOUT_INPUT_INVALID', `${what}: expected the datatype ${expected}, got ${kind}`);
}

/** rows [n][m] of JSON values -> one tensor. Throws TURNOUT_INPUT_INVALID for a value that is not exactly one of the datatype. */
export function tensorFromRows(
  { datatype, shape }: Pick<Tensor, 'datatype' | 'shape'>,
  rows: readonly (readonly unknown[])[],
  what: string,
): Tensor {
  const { fits, range } = RULES[datatype];
  const data = zeros(
    datatype,
    rows.reduce((sum, { length }) => sum + length, 0),
  );
  let at = 0;
  for (const row of rows) {
    for (const value of row) {
      if (typeof value !== 'number' || !fits(value)) {
        const message = `${what}: value ${at} of its data: expected ${datatype}, ${range}, got ${shown(value)}`;
        throw new TurnoutError('TURNOUT_INPUT_INVALID', message, { index: at });
      }
      data[at++] = datatype === 'INT64' ? BigInt(value) : value;
    }
  }
  return { datatype, shape, data } as Tensor;
}

/** Little-endian bytes, as many as the shape needs -> a tensor with a buffer of its own, aligned wherever the bytes began. */
export function tensorFromBytes(
  { datatype, shape }: Pick<Tensor, 'datatype' | 'shape'>,
  bytes: Uint8Array,
): Tensor {
  const data = zeros(datatype, bytes.length / bytesOf(datatype));
  bytesIn(data).set(bytes);
  return { datatype, shape, data } as Tensor;
}

/** The values as bytes, sharing memory. */
export function bytesIn(data: ArrayBufferView): Uint8Array {
  return new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
}

function zeros(datatype: Datatype, length: number): { [index: number]: number | bigint } & ArrayBufferView {
  switch (datatype) {
    case 'INT64':
      return new BigInt64Array(length);
    case 'INT32':
      return new Int32Array(length);
    case 'FP32':
      return new Float32Array(length);
    case 'UINT8':
      return new Uint8Array(length);
  }
}
